"""A run folder in a bucket: a local one that is fetched when a run starts, and uploaded at each save.

RUN/checkpoints/STEP/    whole once its checksums.json is there, which is written last and removed first
RUN/metrics.jsonl, ...   as at the newest save, or later

Each of several processes has a local copy of its own, or one for all but process 0 of a machine. They restore from it.
Process 0 saves and uploads the checkpoints; the others upload their events-<process>.jsonl and stacks-<process>.txt.
"""

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import jax

from jepa_speech.cloud.folders import FolderInBucket
from jepa_speech.cloud.objects import Found
from jepa_speech.errors import Interrupted, UsageError, UserError
from jepa_speech.local_paths import bucket_url
from jepa_speech.lock import LOCK, locked
from jepa_speech.training.checksums import NAME
from jepa_speech.training.distributed import together
from jepa_speech.training.run_folder import ELSES, TEMPORARY, WRITTEN

Upload = Callable[[bool], None]
OF_PROCESS = re.compile(r"(?:events|stacks)-(\d+)\.(?:jsonl|txt)")


@contextmanager
def local_run(workdir: str | Path, from_step: int | None) -> Iterator[tuple[Path, Upload | None]]:
    """Yields the local run folder, and for one in a bucket what uploads it. It is uploaded again after the block.

    The argument of the function says whether it may fail: if not, it raises UserError; otherwise it says so in a line,
    and the next upload has all that is missing. Raises UsageError for a step to go back to.
    """
    if not (url := bucket_url(str(workdir))):
        yield Path(workdir), None
        return
    if from_step is not None:
        raise UsageError(f"from_step: not for a run in a bucket; copy {workdir} to a local folder")
    run = RunInBucket(url, jax.process_index())
    # Before anything is fetched over the files of a run that goes on.
    with locked(run.folder / LOCK, "train") if run.process == 0 else nullcontext():
        run.upload_first()
        together("a run that was never uploaded is in its bucket")
        with run.mirror.updating():
            run.fetch_run()
        together("the run is fetched")  # before process 0 uploads more
        try:
            yield run.folder, run.uploaded
        except Interrupted:
            run.upload()
            raise
        run.upload()


class RunInBucket(FolderInBucket):
    """A run folder in a bucket, and the local copy `folder` of a process. Only what a run writes is uploaded."""

    def __init__(self, url: str, process: int = 0) -> None:
        super().__init__(url, "peers" if process else "runs", _last)
        self.process = process

    def upload_first(self) -> None:
        """Uploads the checkpoints of process 0 if there is no run in the bucket, because no upload succeeded before.

        Raises UserError if something else is there, such as a store.
        """
        if self.process == 0 and "config.json" not in self._found() and self._checkpoints():
            self.upload()

    def fetch_run(self) -> None:
        """Makes the local folder like the one in the bucket. Unfinished checkpoints are left out.

        Without a run in the bucket, process 0 begins anew. Raises UserError if something else is there.
        """
        found = self._found()
        for path in self._checkpoints():
            if _last(path.relative_to(self.folder).as_posix()) not in found:
                shutil.rmtree(path)
        if "config.json" in found:
            self.fetch({name: about for name, about in found.items() if _of_a_run(name)})

    def uploaded(self, may_fail: bool) -> None:
        """Uploads what has changed, and returns once all processes have; see `local_run`."""
        try:
            self.upload()
        except UserError as error:
            if not may_fail:
                raise
            print(f"{error}; the next save uploads this one, too", file=sys.stderr)
        together("the run is uploaded")  # else the others would wait in the next step, which a watchdog limits

    def upload(self) -> None:
        """Uploads what has changed, checksums of a checkpoint last, and removes checkpoints that are here no longer."""
        super().upload()
        if self.process:
            return
        here = self.files()
        gone = [name for name in self.objects.list("checkpoints") if _last(name) not in here]
        for name in sorted(gone, key=lambda name: name != _last(name)):
            self.objects.remove(name)

    def belongs(self, name: str) -> bool:
        """Whether a file is uploaded."""
        parts = name.split("/")
        if (of_process := OF_PROCESS.fullmatch(name)) or self.process:
            return of_process is not None and int(of_process[1]) == self.process
        unfinished = parts[0] == "checkpoints" and TEMPORARY.fullmatch(parts[1])
        return _of_a_run(name) and not name.endswith(".tmp") and not unfinished

    def _found(self) -> dict[str, Found]:
        """Returns the objects. Raises UserError if they are those of something else than a run."""
        found = self.objects.list("")
        strange = next(filter(ELSES.fullmatch, sorted({name.partition("/")[0] for name in found})), None)
        if strange and "config.json" not in found:
            raise UserError(f"{self.objects.url} holds {strange}, so it is not a run folder: choose another folder")
        return found

    def _checkpoints(self) -> list[Path]:
        return [path for path in (self.folder / "checkpoints").glob("*") if path.name.isdigit()]


def _of_a_run(name: str) -> bool:
    """Whether training writes a file of this name, and not another command, such as a probe, in the same folder."""
    first = name.partition("/")[0]
    return first == "config.json" or WRITTEN.fullmatch(first) is not None


def _last(name: str) -> str:
    """Returns the object that makes the checkpoint valid to which an object belongs; "" if it belongs to none."""
    parts = name.split("/")
    return f"checkpoints/{parts[1]}/{NAME}" if parts[0] == "checkpoints" and len(parts) > 1 else ""
