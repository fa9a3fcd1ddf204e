"""Folders in buckets that a command writes: a local one, which is uploaded once the work is done.

Some of the objects make others valid, such as the config.json of a model. They are written last and removed first.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from jepa_speech.cloud.arguments import Copy
from jepa_speech.cloud.cache import cache
from jepa_speech.cloud.mirror import Mirror, local_copy, mirrored
from jepa_speech.cloud.objects import Found, Objects
from jepa_speech.errors import UserError
from jepa_speech.lock import LOCK, locked
from jepa_speech.ownership import already_there

ValidBy = Callable[[str], str]


class FolderInBucket:
    """The objects below a URL, and a local folder `folder` of the cache that holds copies of some of them.

    kind: the folder of the cache below which `folder` is. valid_by: returns the name of the object that makes an object
    valid; "" if none does. Hidden files stay local.
    """

    def __init__(self, url: str, kind: str, valid_by: ValidBy) -> None:
        self.objects, self.valid_by = Objects(url), valid_by
        self.folder = cache().root.joinpath(kind, self.objects.scheme, self.objects.bucket, self.objects.folder)
        self.mirror = Mirror(self.objects, self.folder)

    def fetch(self, found: Mapping[str, Found]) -> None:
        """Brings files up to date, except those of which the object that makes them valid is missing.

        found: the objects in the bucket.
        """
        for name, about in found.items():
            if (last := self.valid_by(name)) == "" or last in found:
                self.mirror.bring(name, about)

    def upload(self) -> None:
        """Uploads what has changed; an object that makes others valid follows them, and is not there without them."""
        found, here = self.objects.list(""), self.files()
        kept = sorted(filter(self.belongs, here))
        self.mirror.upload([name for name in kept if not self.valid_by(name)], found, together=False)
        for last in sorted({self.valid_by(name) for name in kept} - {""}):
            if last in here:  # else another process is writing it
                rest = [name for name in kept if self.valid_by(name) == last != name]
                self.mirror.upload([*rest, last], found)

    def files(self) -> set[str]:
        """The names of the files here."""
        return {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()}

    def belongs(self, name: str) -> bool:
        """Whether a file is uploaded."""
        return not any(part.startswith(".") for part in name.split("/"))


@contextmanager
def read_folder(url: str, given: Mapping[str, Any]) -> Iterator[Path]:
    """Yields a local copy of all of a folder in a bucket that a command reads (see `takes_buckets`)."""
    copy = FolderInBucket(url, "read", lambda name: "")
    with copy.mirror.updating():
        if not (found := copy.objects.list("")):
            raise UserError(f"{copy.objects.url}: no such folder")
        copy.fetch(found)
        for name in copy.files() - found.keys():
            (copy.folder / name).unlink()
    yield copy.folder


@contextmanager
def held(folder: Path, shared: bool = False) -> Iterator[None]:
    """Excludes other processes of this machine that write to a folder in a bucket, inside it or around it.

    folder: the local one, which is made. shared: admit others that share it. Raises UserError if another process writes
    there. The locks are outside of the folder, because it is removed while they are held.
    """
    root = cache().root
    parts = folder.relative_to(root).parts[1:]  # without the kind: scheme, bucket, and the names in it
    with ExitStack() as outer:
        for length in range(2, len(parts)):
            outer.enter_context(locked(root.joinpath("locks", *parts[:length], LOCK), "write", shared=True))
        outer.enter_context(locked(root.joinpath("locks", *parts, LOCK), "write", shared))
        folder.mkdir(parents=True, exist_ok=True)
        yield


@contextmanager
def read_file(url: str, given: Mapping[str, Any]) -> Iterator[Path]:
    """Yields a local copy of a file in a bucket that a command reads (see `takes_buckets`)."""
    try:
        copy = local_copy(url)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from error
    yield copy


def written_folder(valid_by: ValidBy) -> Copy:
    """Returns what yields the local folder in place of one in a bucket that a command writes (see `takes_buckets`).

    What is in the bucket is fetched before, and what was written is uploaded after. Then the local folder is removed.
    After an error it stays, and the same command goes on.
    """

    @contextmanager
    def copied(url: str, given: Mapping[str, Any]) -> Iterator[Path]:
        folder = FolderInBucket(url, "written", valid_by)
        with held(folder.folder):
            folder.fetch(folder.objects.list(""))
            yield folder.folder
            folder.upload()
            shutil.rmtree(folder.folder)

    return copied


def pictures_first(name: str) -> str:
    """For `written_folder`: results are valid by themselves, and follow their pictures."""
    return "" if name.endswith(".png") else name


def new_folder(last: str) -> Copy:
    """Like `written_folder`, for a command that writes nothing over a file that exists.

    last: the file that makes the others valid. What a killed upload left of this command is written again.
    """

    @contextmanager
    def copied(url: str, given: Mapping[str, Any]) -> Iterator[Path]:
        folder = FolderInBucket(url, "written", lambda name: last)
        with held(folder.folder):
            found = folder.objects.list("")
            if last in found:
                raise already_there(folder.objects.url, last)
            here = {name: (folder.folder / name).stat().st_size for name in folder.files()}
            for name in here:
                (folder.folder / name).unlink()
            for name, about in found.items():
                if here.get(name) != about.size:  # else it is of the killed upload
                    folder.mirror.bring(name, about)
            yield folder.folder
            folder.upload()
            shutil.rmtree(folder.folder)

    return copied


@contextmanager
def written_file(url: str, given: Mapping[str, Any]) -> Iterator[Path]:
    """Yields the local file in place of one in a bucket that a command writes (see `takes_buckets`)."""
    found = mirrored(url)
    assert found is not None
    mirror, name = found
    mirror.fetch(name)
    yield mirror.folder / name
    mirror.upload([name])
