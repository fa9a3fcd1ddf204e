"""A local folder that holds shards of stores in buckets, up to a number of bytes. Processes and threads may share it.

ROOT/gs/BUCKET/@KEY/PATH/     a store: store.json, index, labels and so on as in the bucket; KEY is of its store.json
    shards/NAME               a whole shard, whose bytes have been compared with the store's CRC-32
    shards/.NAME.part         a shard that is being fetched, locked by the process that fetches it

Only shards count, and only shards are evicted. A shard's modification time is when it was last asked for.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from math import inf
from pathlib import Path
from typing import BinaryIO, NamedTuple

from jepa_speech.cloud.objects import Missing, Objects
from jepa_speech.cloud.waiting import waiting_for
from jepa_speech.errors import UsageError, UserError

FOLDER, BOUND = "JEPA_SPEECH_CACHE", "JEPA_SPEECH_CACHE_GB"  # environment variables
ADVICE = f"free some space, or name a folder on a larger disk by the environment variable {FOLDER}"
KEPT_FREE = 0.05  # of the disk
NOW = -1  # how soon a shard is used that is read, and not only expected
WAIT = 0.05  # seconds


class Shard(NamedTuple):
    """A shard in a bucket, where it is in the cache, and the bytes and CRC-32 that its store has written.

    crc: None for another large file, of which no checksum is known.
    """

    objects: Objects
    name: str
    path: Path
    size: int
    crc: int | None


class Cache:
    """The cache below `root`, of at most `bound` bytes, or of one shard more while no other can make room.

    Attribute `expected`: for each plan that this process reads, a function that returns in how many batches a shard is
    used, by its path. The shard that is used the latest is evicted first; of several, the one that was asked for the
    longest ago.
    """

    def __init__(self, root: Path, bound: float) -> None:
        self.root, self.bound = root, bound
        self.expected: dict[object, Callable[[Path], float]] = {}

    def fetch(self, shard: Shard, use: float = NOW, go_on: Callable[[], bool] = lambda: True) -> bool:
        """Fetches a shard unless it is in the cache; returns whether it is there now.

        use: in how many batches the shard is used, or NOW. False if only shards that are used sooner could make room,
        or once `go_on` returns False. Raises UserError if the shard is missing or damaged, or the disk is full.
        """
        where = f"{shard.objects.url}/{shard.name}"
        try:
            with writing(self.root):
                return self._fetched(shard, where, use, go_on)
        except Missing as error:
            raise UserError(f"{where}: missing" + "; copy the store again" * (shard.crc is not None)) from error

    def _fetched(self, shard: Shard, where: str, use: float, go_on: Callable[[], bool]) -> bool:
        while not _touched(shard.path):
            with _part_of(shard.path, where) as part:
                if shard.path.exists():  # another process or thread was first
                    continue
                with waiting_for(f"{self.root}: room for {where}"):
                    if not go_on() or not self._make_room(part, shard.size, use):
                        return False
                crc = shard.objects.download(shard.name, part, shard.size, go_on)
                if crc is None:
                    return False
                if shard.crc not in (None, crc):
                    raise UserError(f"{where}: not the bytes that were written; copy the store again")
                os.fsync(part.fileno())
                Path(part.name).replace(shard.path)
        return True

    def _make_room(self, part: BinaryIO, size: int, use: float) -> bool:
        """Evicts shards until another of `size` bytes fits, and reserves its bytes by the length of `part`."""
        while True:
            with _locked(self.root / ".lock"):
                shards = self._shards()
                disk = shutil.disk_usage(self.root)
                missing = max(sum(shards.values()) + size - self.bound, size + KEPT_FREE * disk.total - disk.free)
                soon = {path: self._soon(path) for path in shards}
                for path in sorted(shards, key=lambda path: (-soon[path], _asked_at(path))):
                    if missing <= 0 or soon[path] <= use:
                        break
                    if _removed(path):
                        missing -= shards.pop(path)
                if missing > 0 and use != NOW:
                    return False
                if shutil.disk_usage(self.root).free < size:
                    raise UserError(f"{self.root}: the disk is full; {ADVICE}")
                if sum(shards.values()) <= self.bound:
                    part.truncate(size)
                    return True
            time.sleep(WAIT)  # until others have fetched their shards, which can then be evicted

    def _shards(self) -> dict[Path, int]:
        """Returns the bytes of all shards, and of those being fetched, after removing those of dead processes."""
        found = {}
        for folder in chain(self.root.glob("gs/**/shards"), self.root.glob("s3/**/shards")):
            for path in folder.iterdir():
                if not path.name.endswith(".part") or not _removed(path):
                    found[path] = _size(path)
        return found

    def _soon(self, path: Path) -> float:
        if path.name.endswith(".part"):
            return NOW
        return min((soon(path) for soon in list(self.expected.values())), default=inf)


def cache() -> Cache:
    """Returns the cache that the environment names: by default in the user's folder of caches, without bound."""
    return _cache_of(str(place()), os.environ.get(BOUND, ""))


def place() -> Path:
    """Returns the folder of the cache, which may not exist yet."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(FOLDER) or f"{home}/jepa-speech/buckets").resolve()


@lru_cache(None)
def _cache_of(root: str, bound: str) -> Cache:
    try:
        limit = float(bound) * 1e9 if bound else inf
    except ValueError:
        limit = 0
    if not limit > 0:
        raise UsageError(f"the environment variable {BOUND} is {bound!r}: set it to a number of GB above 0")
    try:
        Path(root).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{root}: cannot be made ({error.strerror}); set the environment variable {FOLDER}") from error
    return Cache(Path(root).resolve(), limit)


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """Names the cache below `root`, and what to do, if the block raises an OSError because its disk is full."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{root}: cannot be written ({error.strerror or error}); {ADVICE}") from error


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """While the block runs, the shard at `path` is not evicted. Yields whether it is there."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        yield False
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield _is_at(file, path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Excludes other threads and processes while the block runs."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _part_of(path: Path, where: str) -> Iterator[BinaryIO]:
    """Yields the empty, locked file in which the shard `path` is fetched. It is removed unless it was renamed.

    where: the name of the shard, for the line that says that another process or thread takes long to fetch it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    while True:
        with open(part, "rb+", opener=_made) as file:
            with waiting_for(f"{where} (another process or thread fetches it)"):
                fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_at(file, part):  # the process that held the lock renamed or removed it
                continue
            file.truncate(0)
            try:
                yield file
            finally:
                if _is_at(file, part):
                    part.unlink()
            return


def _made(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o666)


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _removed(path: Path) -> bool:
    """Removes a file unless its lock is held; returns whether it is gone."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(file, path):
                path.unlink()
        return True
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False


def _touched(path: Path) -> bool:
    """Notes that a shard was asked for; returns whether it is there."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _asked_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
