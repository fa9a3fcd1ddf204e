"""Inputs in a bucket: listed by local files of the same names, and read from the bucket.

A folder is listed by a tree of empty files in the cache, with the sizes and times of the objects. Only files that may
hold labels are fetched. Recordings are read into memory when they are decoded. Tars and parquet files are fetched whole
into the cache, which evicts them like shards.
"""

import io
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from jepa_speech.cloud.cache import Shard, cache, held, writing
from jepa_speech.cloud.mirror import SECOND, Mirror
from jepa_speech.cloud.objects import Found, Missing, Objects
from jepa_speech.errors import UsageError, UserError
from jepa_speech.local_paths import bucket_url

if TYPE_CHECKING:
    from jepa_speech.ingest.audio_source import AudioSource  # which imports this module

ARCHIVES = (".tar", ".parquet")
# What may be a manifest or labels. Files without a suffix may be Kaldi's.
TEXTS = (
    *("", ".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".gz", ".scp", ".list", ".trn", ".ltr", ".wrd"),
    *(".phn", ".lab", ".trans", ".md"),
)
AT_ONCE = 16  # small files that are fetched at a time
AHEAD, AHEAD_BYTES = 8, 64 << 20  # recordings that a process fetches while it decodes others


def local_input(name: str | Path) -> Path:
    """Returns the absolute path of a local input; of one in a bucket, the local file or folder by which it is listed.

    Raises UserError if there is no such object, or it cannot be read.
    """
    url = bucket_url(str(name))
    if not url:
        return Path(name).absolute()
    objects, file = _parent(url)
    if about := objects.find(file):
        if file.lower().endswith(ARCHIVES):
            return _fetched(objects, file, about)
        mirror = Mirror(objects, _folder(objects))
        with mirror.updating():
            for one in (file, *(PurePosixPath(file).with_suffix(suffix).name for suffix in (".wrd", ".ltr"))):
                mirror.fetch(one)
        return mirror.folder / file
    mirror = Mirror(objects := Objects(url), _folder(objects))
    with mirror.updating():
        _make_tree(objects, mirror)
    return mirror.folder


def stamp_in_bucket(url: str) -> tuple[int, int] | None:
    """Returns size and time of a recording, as `audio_source.stamp_of` does; None if there is no such object."""
    objects, name = _parent(url)
    about = _listed(objects.url).get(name)
    return (about.size, about.written * SECOND) if about else None


@lru_cache(1)  # for further segments of the file
def object_bytes(url: str, size: int, written: int) -> bytes:
    """Returns the bytes of an object of this size and time, as `stamp_in_bucket` gives them.

    Raises FileNotFoundError if there is none, Changed if it has others, and UserError if it cannot be read.
    """
    return _ahead.take((url, size, written)) if _ahead else _downloaded(url, size, written)


@contextmanager
def fetched_ahead(places: "Iterable[AudioSource]") -> Iterator[None]:
    """While the block runs, recordings are fetched before `object_bytes` is called for them, by several threads.

    places: in the order in which they are read. Local ones, and those in a tar or a parquet file, are passed over.
    """
    global _ahead
    whole = (place for place in places if place.stamp and not (place.span or place.cell))
    urls = [(url, *place.stamp) for place in whole if (url := bucket_url(place.path))]
    if not urls:
        yield
        return
    with ThreadPoolExecutor(AHEAD) as pool:
        _ahead = _Ahead(pool, urls)
        try:
            yield
        finally:
            _ahead = None
            pool.shutdown(cancel_futures=True)


class _Ahead:
    """Objects that are being fetched or wait to be taken, in order: AHEAD at most, and AHEAD_BYTES but for one."""

    def __init__(self, pool: ThreadPoolExecutor, urls: Iterable[tuple[Any, ...]]) -> None:
        self._pool, self._later = pool, deque(dict.fromkeys(urls))
        self._coming: dict[tuple[Any, ...], Future[bytes]] = {}

    def take(self, key: tuple[Any, ...]) -> bytes:
        self._submit()
        if key not in self._coming:
            return _downloaded(*key)
        data = self._coming[key].result()
        del self._coming[key]
        self._submit()  # the next one, while this one is decoded
        return data

    def _submit(self) -> None:
        while self._later and len(self._coming) < AHEAD:
            if self._coming and sum(size for _, size, _ in [*self._coming, self._later[0]]) > AHEAD_BYTES:
                break
            key = self._later.popleft()
            self._coming[key] = self._pool.submit(_downloaded, *key)


_ahead: _Ahead | None = None


def _downloaded(url: str, size: int, written: int) -> bytes:
    objects, name = _parent(url)
    data = io.BytesIO()
    try:
        objects.download(name, data, size, written=written // SECOND)
    except Missing as error:
        raise FileNotFoundError(str(error)) from error
    return data.getvalue()


@contextmanager
def local_archive(url: str, size: int, written: int) -> Iterator[Path]:
    """Yields the path of a tar or parquet file in the cache, where it stays while the block runs."""
    objects, name = _parent(url)
    while True:
        path = _fetched(objects, name, Found(size, written // SECOND))
        with held(path) as here:
            if here:
                yield path
                return


def _fetched(objects: Objects, name: str, about: Found) -> Path:
    # A path below `shards`, of which the cache removes those that it has no room for.
    state = f"@{about.size}-{about.written}"
    path = cache().root.joinpath(objects.scheme, objects.bucket, objects.folder, state, "shards", name)
    cache().fetch(Shard(objects, name, path, about.size, None))
    return path


def _make_tree(objects: Objects, mirror: Mirror) -> None:
    """Makes the local files by which a folder is listed."""
    found, texts = objects.list(""), []
    if not found:
        raise UserError(f"{objects.url}: no such folder or manifest")
    with writing(cache().root):
        for name, about in found.items():
            if mirror.is_current(name, about):
                continue
            if PurePosixPath(name).suffix.lower() in TEXTS:
                texts.append(name)
            else:
                mirror.make_empty(name, about)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(mirror.bring, texts, map(found.__getitem__, texts)))
    for path in mirror.folder.rglob("*"):
        if path.is_file() and path.relative_to(mirror.folder).as_posix() not in found:
            path.unlink()


def forget_listings() -> None:
    """Makes the functions above ask the bucket again."""
    for kept in (_listed, _objects, object_bytes):
        kept.cache_clear()


def _folder(objects: Objects) -> Path:
    return cache().root.joinpath("inputs", objects.scheme, objects.bucket, objects.folder)


@lru_cache(64)
def _listed(url: str) -> dict[str, Found]:
    return Objects(url).names()


def _parent(url: str) -> tuple[Objects, str]:
    folder, _, name = url.rpartition("/")
    if folder.endswith(":/"):
        raise UsageError(f"{url}: the URL of a bucket; name a folder or a file in it")
    return _objects(folder), name


@lru_cache(64)
def _objects(url: str) -> Objects:
    return Objects(url)
