"""Where `prepare` writes a store: a local folder, or one of the cache that is uploaded into a bucket.

A store in a bucket begins with work/plan.json. Parts add their shards, each with its sidecar (chunks.py), from any
number of machines. Then come the index and the other files, last store.json, and work/ is removed.
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jepa_speech import ownership
from jepa_speech.cloud.cache import cache
from jepa_speech.cloud.folders import held
from jepa_speech.cloud.mirror import Mirror
from jepa_speech.cloud.objects import Found, Objects
from jepa_speech.errors import UserError
from jepa_speech.local_paths import bucket_url
from jepa_speech.store.description import FILES
from jepa_speech.store.store_files import LocalFiles, cached_folder, shard_name

PLAN, ENTRIES = "work/plan.json", "work/entries.jsonl"
WHOLE = "store.json"


class LocalDestination:
    """A local folder, where all is done once it is written."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, str(folder)

    @contextmanager
    def opened(self, shared: bool = False) -> Iterator[None]:
        """Brings the plan and the sidecars of an unfinished store here, or the description of a complete one.

        Of a store in a bucket, no other process may write here while the block runs, but those that are `shared`, too.
        Raises UserError if one does, or something else is there.
        """
        yield

    def sizes(self, shards: int) -> list[int]:
        """Returns the bytes of each shard, -1 for a missing one."""
        return LocalFiles(self.folder).shard_sizes(shards)

    def readable(self) -> str | Path:
        """Returns what a complete store is opened from."""
        return self.folder

    def upload_plan(self) -> None:
        """Begins the store. Raises UserError if another machine has begun one of other inputs."""

    def upload_chunks(self, chunks: Iterable[int]) -> None:
        """Moves the shards of chunks to their place, each followed by its sidecar."""

    def upload_rejects(self) -> None:
        """Writes rejects.jsonl of a store that has too many of them."""

    def upload_whole(self) -> None:
        """Writes all other files, store.json last, and removes work/."""

    def leave(self) -> None:
        """Makes the local files those from which the complete store is read. The folder is gone after that."""


class BucketDestination(LocalDestination):
    """A folder in a bucket. What is uploaded is written in `folder` before, a folder of the cache."""

    def __init__(self, url: str) -> None:
        self._objects = Objects(url)
        parts = self._objects.scheme, self._objects.bucket, self._objects.folder
        super().__init__(cache().root.joinpath("written", *parts))
        self.name, self._found, self._begun = self._objects.url, dict[str, Found](), False
        self._mirror = Mirror(self._objects, self.folder)

    @contextmanager
    def opened(self, shared: bool = False) -> Iterator[None]:
        """Like `LocalDestination.opened`."""
        found = self._found = self._objects.list("")
        begun = WHOLE if WHOLE in found else PLAN if {PLAN, ENTRIES} <= found.keys() else None
        strange = sorted(name for name in found if not name.startswith("work/"))
        if strange and not begun:
            raise UserError(f"{self.name}: not a store, as it holds {strange[0]}; choose a new folder")
        self._begun = begun == PLAN
        here = self.folder / (begun or PLAN)
        if begun and here.is_file() and here.read_bytes() != self._objects.read(begun):
            with held(self.folder):  # also without those that share it
                shutil.rmtree(self.folder)  # it is of a store that another one has replaced
        with held(self.folder, shared):
            if begun == PLAN and not (self.folder / "work").exists():
                ownership.make(self.folder / "work")
            for name in [begun, "rejects.jsonl"] if begun == WHOLE else sorted(found) if begun else ():
                if name in found and not name.startswith("shards/"):
                    self._mirror.bring(name, found[name])
            yield

    def sizes(self, shards: int) -> list[int]:
        """Like `LocalDestination.sizes`."""
        missing = Found(-1, 0)
        there = [self._found.get(shard_name(shard), missing).size for shard in range(shards)]
        return [here if here >= 0 else size for here, size in zip(super().sizes(shards), there, strict=True)]

    def readable(self) -> str | Path:
        """Like `LocalDestination.readable`."""
        return self.name if WHOLE in self._found else self.folder

    def upload_plan(self) -> None:
        """Like `LocalDestination.upload_plan`."""
        if WHOLE in self._found or self._mirror.is_current(PLAN, self._found.get(PLAN)):
            return
        if self._begun:  # its recordings were all rejected, so the inputs may be others
            for name in sorted(self._found):
                if name.startswith(("work/", "shards/")) or name in FILES:
                    self._objects.remove(name)
        ours = (self.folder / PLAN).read_bytes()
        if not self._objects.create(PLAN, ours) and self._objects.read(PLAN) != ours:
            raise UserError(f"{self.name}: another machine has just begun it with other inputs; choose another folder")
        self._mirror.upload([ENTRIES])  # equal to those of another machine with this plan, which has their hash
        self._found = self._objects.list("")
        self._mirror.note(PLAN, self._found[PLAN])

    def upload_chunks(self, chunks: Iterable[int]) -> None:
        """Like `LocalDestination.upload_chunks`."""
        for chunk in chunks:
            pair = shard_name(chunk), f"work/part-{chunk:05d}.jsonl"
            if (self.folder / pair[0]).is_file():
                self._mirror.upload(pair)
                (self.folder / pair[0]).unlink()

    def upload_rejects(self) -> None:
        """Like `LocalDestination.upload_rejects`."""
        self._mirror.upload(["rejects.jsonl"])

    def upload_whole(self) -> None:
        """Like `LocalDestination.upload_whole`."""
        if WHOLE not in self._found:
            shards = sorted(path.name for path in (self.folder / "shards").glob("*"))
            self._mirror.upload([*(f"shards/{name}" for name in shards), *FILES, WHOLE], self._objects.list(""))
        for name in sorted(self._objects.list("work"), key=lambda name: name == PLAN):
            self._objects.remove(name)

    def leave(self) -> None:
        """Like `LocalDestination.leave`."""
        read_from = cached_folder(self._objects, (self.folder / WHOLE).read_bytes())
        if WHOLE in self._found or read_from.exists():
            shutil.rmtree(self.folder)
        else:
            read_from.parent.mkdir(parents=True, exist_ok=True)
            self.folder.rename(read_from)


def destination_of(out: str | Path) -> LocalDestination:
    """Returns the destination by its path or URL."""
    url = bucket_url(str(out))
    return BucketDestination(url) if url else LocalDestination(Path(out))
