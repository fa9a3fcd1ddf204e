"""A run folder in a bucket: a local one that is fetched when a run starts, and uploaded at each save.

RUN/checkpoints/STEP/    whole once its checksums.json is there, which is written last and removed first
RUN/metrics.jsonl, ...   as at the newest save, or later
"""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

from jepa_speech.cloud.folders import FolderInBucket
from jepa_speech.errors import Interrupted, UsageError, UserError
from jepa_speech.local_paths import bucket_url
from jepa_speech.lock import LOCK, locked
from jepa_speech.training.checksums import NAME
from jepa_speech.training.run_folder import ELSES, TEMPORARY

Upload = Callable[[bool], None]


@contextmanager
def local_run(workdir: str | Path, from_step: int | None) -> Iterator[tuple[Path, Upload | None]]:
    """Yields the local run folder, and for one in a bucket what uploads it. It is uploaded again after the block.

    The argument of the function says whether it may fail: if not, it raises UserError; otherwise it says so in a line,
    and the next upload has all that is missing. Raises UsageError for several processes, or a step to go back to.
    """
    if not (url := bucket_url(str(workdir))):
        yield Path(workdir), None
        return
    if jax.process_count() > 1:
        raise UsageError(f"workdir = {workdir}: a run of several processes needs a folder that all of them share")
    if from_step is not None:
        raise UsageError(f"from_step: not for a run in a bucket; copy {workdir} to a local folder")
    run = RunInBucket(url)
    with locked(run.folder / LOCK, "train"):  # before anything is fetched over the files of a run that goes on
        run.fetch_run()
        try:
            yield run.folder, run.uploaded
        except Interrupted:
            run.upload()
            raise
        run.upload()


class RunInBucket(FolderInBucket):
    """A run folder in a bucket, and its local copy `folder`. Hidden files and the folder `aside` stay local."""

    def __init__(self, url: str) -> None:
        super().__init__(url, "runs", _last)

    def fetch_run(self) -> None:
        """Makes the local folder like the one in the bucket, if a run is there. Unfinished checkpoints are left out.

        Raises UserError if something else is there, such as a store.
        """
        found = self.objects.list("")
        if "config.json" not in found:
            if there := next(filter(ELSES.fullmatch, sorted({name.partition("/")[0] for name in found})), None):
                url = self.objects.url
                raise UserError(f"{url} holds {there}, so it is not a run folder: choose another folder")
            return
        for path in self._checkpoints():
            if _last(path.relative_to(self.folder).as_posix()) not in found:
                shutil.rmtree(path)
        self.fetch(found)

    def uploaded(self, may_fail: bool) -> None:
        """Uploads what has changed; see `local_run`."""
        try:
            self.upload()
        except UserError as error:
            if not may_fail:
                raise
            print(f"{error}; the next save uploads this one, too", file=sys.stderr)

    def upload(self) -> None:
        """Uploads what has changed, checksums of a checkpoint last, and removes checkpoints that are here no longer."""
        super().upload()
        here = self.files()
        gone = [name for name in self.objects.list("checkpoints") if _last(name) not in here]
        for name in sorted(gone, key=lambda name: name != _last(name)):
            self.objects.remove(name)

    def belongs(self, name: str) -> bool:
        """Whether a file is uploaded."""
        parts = name.split("/")
        unfinished = parts[0] == "checkpoints" and TEMPORARY.fullmatch(parts[1])
        return not parts[0].startswith(".") and parts[0] != "aside" and not name.endswith(".tmp") and not unfinished

    def _checkpoints(self) -> list[Path]:
        return [path for path in (self.folder / "checkpoints").glob("*") if path.name.isdigit()]


def _last(name: str) -> str:
    """Returns the object that makes the checkpoint valid to which an object belongs; "" if it belongs to none."""
    parts = name.split("/")
    return f"checkpoints/{parts[1]}/{NAME}" if parts[0] == "checkpoints" and len(parts) > 1 else ""
