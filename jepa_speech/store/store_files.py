"""The files of a store: in a local folder, or in a bucket and, once they are needed, in the local cache.

What reads a store asks for the files first by `fetch`, for a shard by `shard`, and then opens them below `folder`.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jepa_speech.cloud.cache import Shard, cache, held, writing
from jepa_speech.cloud.mirror import Mirror
from jepa_speech.cloud.objects import Found, Missing, Objects
from jepa_speech.errors import UserError
from jepa_speech.files import replacing
from jepa_speech.local_paths import bucket_url


def shard_name(shard: int) -> str:
    return f"shards/part-{shard:05d}.array_record"


@dataclass(frozen=True)
class LocalFiles:
    """The files of a store in a local folder; there is nothing to fetch."""

    folder: Path

    @property
    def name(self) -> str:
        """The path as the user gave it."""
        return str(self.folder)

    def fetch(self, pattern: str, last: str = "") -> None:
        """Brings the files up to date whose names match, such as index/*.npy, if there is also `last`."""

    def upload(self, names: Sequence[str]) -> None:
        """Writes files to the bucket, the last one after all others."""

    def shard_sizes(self, shards: int) -> list[int]:
        """Returns the bytes of each shard, -1 for a missing one."""
        # Plain strings, because with thousands of shards making a Path takes longer than reading its size.
        return [_size(f"{self.folder}/{shard_name(shard)}") for shard in range(shards)]

    @contextmanager
    def shard(self, shard: int, size: int, crc: int) -> Iterator[Path]:
        """Yields the path of a shard of `size` bytes with the CRC-32 `crc`, where it stays while the block runs."""
        yield self.folder / shard_name(shard)

    def identity(self, shard: int) -> int:
        """Returns a number that changes if the shard is fetched again, and is 0 after it was evicted."""
        return 1


class BucketFiles:
    """The files of a store in a bucket, in a folder of the local cache that belongs to one state of its store.json.

    folder: of a store that another process opened. Raises UserError if there is no complete store.
    """

    def __init__(self, url: str, folder: Path | None = None) -> None:
        self._objects = Objects(url)
        self.name = self._objects.url
        self.folder = folder or self._opened()
        self._mirror = Mirror(self._objects, self.folder)

    def __reduce__(self) -> tuple[type, tuple[str, Path]]:
        return BucketFiles, (self.name, self.folder)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BucketFiles) and self.folder == other.folder

    def __hash__(self) -> int:
        return hash(self.folder)

    def fetch(self, pattern: str, last: str = "") -> None:
        """Like `LocalFiles.fetch`."""
        self._mirror.fetch(pattern, last)

    def upload(self, names: Sequence[str]) -> None:
        """Like `LocalFiles.upload`."""
        self._mirror.upload(names)

    def shard_sizes(self, shards: int) -> list[int]:
        """Like `LocalFiles.shard_sizes`."""
        found = self._objects.list("shards")
        missing = Found(-1, 0)
        return [found.get(shard_name(shard), missing).size for shard in range(shards)]

    @contextmanager
    def shard(self, shard: int, size: int, crc: int) -> Iterator[Path]:
        """Like `LocalFiles.shard`."""
        wanted = self.wanted(shard, size, crc)
        while True:
            try:
                cache().fetch(wanted)
            except UserError as error:
                self._refuse_another_store(error)
                raise
            with held(wanted.path) as here:
                if here:  # and not evicted since
                    yield wanted.path
                    return

    def identity(self, shard: int) -> int:
        """Like `LocalFiles.identity`."""
        try:
            return (self.folder / shard_name(shard)).stat().st_ino
        except FileNotFoundError:
            return 0

    def wanted(self, shard: int, size: int, crc: int) -> Shard:
        """Returns what the cache fetches for a shard of `size` bytes with the CRC-32 `crc`."""
        name = shard_name(shard)
        return Shard(self._objects, name, self.folder / name, size, crc)

    def _opened(self) -> Path:
        try:
            info = self._objects.read("store.json")
        except Missing as error:
            fix = "copy a whole store there"
            if self._objects.find("work/plan.json"):
                fix = "run the same prepare command again, or inspect --merge once all its parts are written"
            raise UserError(f"{self.name}: not a complete store (no store.json); {fix}") from error
        folder = cached_folder(self._objects, info)
        if not (folder / "store.json").is_file():
            with writing(cache().root), replacing(folder / "store.json") as file:
                file.write(info)
        return folder

    def _refuse_another_store(self, error: UserError) -> None:
        """Raises UserError if another store is there now, which explains `error`."""
        try:
            info = self._objects.read("store.json")
        except UserError:
            return
        if cached_folder(self._objects, info) != self.folder:
            raise UserError(
                f"{self.name}: another store replaced it while it was read; start again, or copy the earlier one back"
            ) from error


def cached_folder(store: Objects, info: bytes) -> Path:
    """Returns the folder of the cache for a store with this store.json; one that replaces it has another folder."""
    state = hashlib.sha256(info).hexdigest()[:12]
    return cache().root.joinpath(store.scheme, store.bucket, f"@{state}", store.folder)


def files_of(path: "str | Path | LocalFiles | BucketFiles") -> LocalFiles | BucketFiles:
    """Returns the files of a store by its path or URL."""
    if isinstance(path, (LocalFiles, BucketFiles)):
        return path
    url = bucket_url(str(path))
    return BucketFiles(url) if url else LocalFiles(Path(path))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116
    except OSError:
        return -1
