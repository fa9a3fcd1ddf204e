"""A run that hangs ends itself, and leaves behind where it hung."""

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jepa_speech.errors import Interrupted


class Watchdog:
    """Ends the process with exit code 75 once no step was done for `seconds`; 0: never.

    Before that, the stacks of all threads go to RUN/stacks-<process>.txt, below a line that names the last step. The
    time that is spent in `paused` does not count.
    """

    def __init__(self, seconds: float, workdir: Path, process: int, step: int) -> None:
        self.seconds, self.step = seconds, step
        self.path = workdir / f"stacks-{process}.txt"
        self.seen: float | None = time.monotonic()  # None while paused
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        if self.seconds:
            self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()

    def done(self, step: int) -> None:
        """Notes that `step` is done."""
        self.step, self.seen = step, time.monotonic()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """For what may take long, such as a compilation."""
        self.seen = None
        yield
        self.seen = time.monotonic()

    def _watch(self) -> None:
        while not self.over.wait(min(1.0, self.seconds / 10)):
            seen = self.seen
            if seen is not None and time.monotonic() - seen > self.seconds:
                self._give_up()

    def _give_up(self) -> None:
        what = f"no step for {self.seconds:g} s; the last was {self.step}"
        try:
            with self.path.open("w", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S%z')}: {what}\n\n")
                file.flush()
                faulthandler.dump_traceback(file, all_threads=True)
            print(f"{what}; {self.path} says where each thread was; run the same command to go on", file=sys.stderr)
        finally:  # a disk that hangs or is full is no reason to stay
            sys.stderr.flush()
            os._exit(Interrupted.exit_code)
