"""TensorBoard's event files, written in the calling thread.

tensorboardX's SummaryWriter writes in a thread of its own. If a write fails there, for instance on a full disk, that
thread ends with a traceback, and the run blocks for ever once ten more values are queued.
"""

import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from jepa_speech.progress import Say, silent


@contextmanager
def without_torch() -> Iterator[None]:
    """Hides torch inside the block, unless it is loaded already.

    tensorboardX 2.6.5 imports torch, if it is installed, for one type annotation. That takes some seconds, and none of
    its modules can be imported without.
    """
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]  # None in sys.modules: the import fails
    try:
        yield
    finally:
        if hidden:
            del sys.modules["torch"]


class TensorBoard:
    """A new event file in a folder. A write that fails ends the plots, not the run, and a line says so.

    The plots can be drawn again from metrics.jsonl.
    """

    def __init__(self, folder: Path, step: int, say: Say = silent) -> None:
        """step: where the run starts or resumes. TensorBoard hides what an earlier process plotted past it.

        say: called with a line if the folder should be there and is missing.
        """
        with without_torch():
            from tensorboardX.proto.event_pb2 import Event, SessionLog
            from tensorboardX.record_writer import RecordWriter
            from tensorboardX.summary import scalar
        if step and not folder.exists():
            say(f"{folder} is missing: the plots up to step {step} are lost; training continues")
        self.folder, self.event, self.scalar = folder, Event, scalar
        folder.mkdir(parents=True, exist_ok=True)
        now = time.time()
        self.writer = RecordWriter(str(folder / f"events.out.tfevents.{int(now)}.{socket.gethostname()}"))
        first = [Event(wall_time=now, file_version="brain.Event:2")]
        again = [Event(wall_time=now, step=step + 1, session_log=SessionLog(status=SessionLog.START))]
        self._write(first + again if step else first)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Plots the values of a step by their names; they are on disk when this returns."""
        now = time.time()
        self._write([self.event(step=step, wall_time=now, summary=self.scalar(name, x)) for name, x in values.items()])

    def close(self) -> None:
        if self.writer:
            self._write([])
            with suppress(OSError):  # the lost plots were already reported
                self.writer.close()

    def _write(self, events: list[Any]) -> None:
        if not self.writer:
            return
        try:
            for event in events:
                self.writer.write(event.SerializeToString())
            self.writer.flush()
        except OSError as error:
            print(f"{self.folder}: no more plots ({error.strerror}); metrics.jsonl has the figures", file=sys.stderr)
            with suppress(OSError):  # the rest of its buffer fails as well
                self.writer.close()
            self.writer = None
