"""A local folder beside one in a bucket. A file is current if it has the size and the time of its object."""

import errno
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from jepa_speech.cloud.cache import cache, writing
from jepa_speech.cloud.objects import Found, Objects
from jepa_speech.cloud.waiting import waiting_for
from jepa_speech.errors import UsageError, UserError
from jepa_speech.files import replacing
from jepa_speech.local_paths import bucket_url

SECOND = 1_000_000_000  # ns


class Mirror:
    """The objects below a URL, and the files below `folder` that are copies of some of them."""

    def __init__(self, objects: Objects, folder: Path) -> None:
        self._objects, self.folder, self.url = objects, folder, objects.url

    @contextmanager
    def updating(self) -> Iterator[None]:
        """Excludes other threads and processes that fetch copies of this kind from the bucket while the block runs.

        A caller that removes files whose objects are gone also lists the objects within the block. By an older list, it
        would remove what another process has just fetched. A nested block would wait for the outer one for ever.
        """
        root = cache().root
        # One lock for all folders of the kind and the bucket, because one of them may be inside another.
        kind, scheme, bucket = self.folder.relative_to(root).parts[:3]
        with writing(root):
            root.mkdir(parents=True, exist_ok=True)
            file = (root / f".{kind}-{scheme}-{bucket}.lock").open("ab")
        with file:
            what = f"{self._objects.url} (another process or thread fetches from its bucket)"
            with writing(root), waiting_for(what):
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def fetch(self, pattern: str, last: str = "") -> bool:
        """Brings the files up to date whose names match, such as index/*.npy; returns whether there are any objects.

        last: the object that `upload` writes last. Nothing is fetched while it is missing.
        """
        found = self._found(pattern)
        for name, about in found.items():
            if _matches(name, pattern) and (not last or last in found):
                self.bring(name, about)
        return bool(found)

    def bring(self, name: str, about: Found) -> None:
        """Fetches an object unless its file is current. Raises UserError for a name that leads out of the folder."""
        path = self._path(name)
        if not self.is_current(name, about):
            with writing(cache().root), replacing(path) as file:
                if about.size:  # an empty object may be that of a folder, whose name ends with a slash
                    self._objects.download(name, file, about.size)
                file.flush()  # which changes the time
                _stamp(file.fileno(), about)

    def make_empty(self, name: str, about: Found) -> None:
        """Makes a file of the size and time of an object, without fetching its bytes."""
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        # One that is there goes from its old size to the new one at once, because another process may read it.
        with path.open("ab") as file:
            file.truncate(about.size)
            _stamp(file.fileno(), about)

    def upload(self, names: Sequence[str], found: Mapping[str, Found] | None = None, together: bool = True) -> None:
        """Uploads files in this order. The last object is removed before another one is replaced, if they go together.

        Objects that are current are left as they are, so that an upload goes on after a kill. found: the objects that
        are there, if they are known.
        """
        if found is None:
            found = {name: about for name in names if (about := self._objects.find(name))}
        changed = [name for name in names if name not in found or not self.is_current(name, found[name])]
        if changed and together and names[-1] in found:
            self._objects.remove(names[-1])
            changed = [*(name for name in changed if name != names[-1]), names[-1]]
        for name in changed:
            self._objects.upload(name, self.folder / name)
            if about := self._objects.find(name):
                self.note(name, about)

    def _found(self, pattern: str) -> dict[str, Found]:
        folder, several, _ = pattern.partition("/*")
        if several:
            return self._objects.list(folder)
        about = self._objects.find(pattern)
        return {pattern: about} if about else {}

    def _path(self, name: str) -> Path:
        if {"", ".", ".."} & set(name.split("/")):
            raise UserError(f"{self._objects.url}/{name}: not the name of a file; rename or remove it")
        return self.folder / name

    def is_current(self, name: str, about: Found | None) -> bool:
        """Whether a file is a copy of its object, which has this size and time."""
        if about is None:
            return False
        try:
            found = (self.folder / name).stat()
        except FileNotFoundError:
            return False
        return (found.st_size, found.st_mtime_ns) == (about.size, about.written * SECOND)

    def note(self, name: str, about: Found) -> None:
        """Notes that a file is a copy of its object."""
        _stamp(self.folder / name, about)


def mirrored(path: str | Path) -> tuple[Mirror, str] | None:
    """Returns the mirror of a file's folder in a bucket, and its name; None for a local path."""
    if not bucket_url(str(path)):
        return None
    url, _, name = bucket_url(str(path)).rpartition("/")
    if url.endswith(":/"):
        raise UsageError(f"{path}: the URL of a bucket; name a file in it")
    objects = Objects(url)
    return Mirror(objects, cache().root.joinpath("files", objects.scheme, objects.bucket, objects.folder)), name


def local_copy(path: str | Path) -> Path:
    """Returns a local path as it is, and of a file in a bucket the path of its copy, which is brought up to date.

    Raises FileNotFoundError if there is no such object, even if there is still a copy.
    """
    found = mirrored(path)
    if found is None:
        return Path(path)
    mirror, name = found
    if not mirror.fetch(name):
        raise FileNotFoundError(errno.ENOENT, "no such object", f"{mirror.url}/{name}")
    return mirror.folder / name


def _stamp(file: Path | int, about: Found) -> None:
    # A whole second, which the time of a file that was written since is not.
    os.utime(file, ns=(about.written * SECOND, about.written * SECOND))


def _matches(name: str, pattern: str) -> bool:
    """Whether a name has the parts of a pattern."""
    parts, wanted = name.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))
