"""The place of a recording: a file, a member of an archive, or a cell of a table; and opening it."""

import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from jepa_speech.cloud.objects import Changed
from jepa_speech.ingest.in_bucket import local_archive, object_bytes, stamp_in_bucket
from jepa_speech.ingest.parquet_audio import cell_bytes
from jepa_speech.local_paths import bucket_url


class Rejected(Exception):
    """Raised for a recording that cannot be used. `reason` is a short stable code, `detail` a line to print."""

    def __init__(self, reason: str, detail: str):
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, kw_only=True)
class AudioSource:
    """The file of a recording, and the part of the file that is the recording."""

    path: str = ""  # absolute
    stamp: tuple[int, ...] = ()  # (bytes, time of change) of the file when it was listed; () if it was not listed
    span: tuple[int, ...] = ()  # (offset, bytes) of a member of an archive
    cell: tuple[int, ...] = ()  # (row group, row in the group) of a parquet file
    start: float = 0.0  # start of a segment, in seconds
    seconds: float | None = None  # duration of a segment; None: to the end
    channel: int | None = None  # None: the mean of all channels
    frames: int | None = None  # samples of the whole file at its own rate, according to its manifest

    def __post_init__(self) -> None:
        for name in ("stamp", "span", "cell"):  # JSON gives lists
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def is_segment(self) -> bool:
        return self.start > 0 or self.seconds is not None


class Window(io.RawIOBase):
    """A file-like view of bytes that are read by position; it starts at 0 and ends after `size`."""

    def __init__(self, read_at: Callable[[int, int], bytes], size: int):
        super().__init__()
        self.size = size
        self.error: OSError | None = None
        self._read_at, self._position = read_at, 0
        self._head, self._skipped = b"", 0

    def at(self, offset: int, count: int) -> bytes:
        """Returns up to `count` bytes from `offset` on; fewer at the end."""
        count = max(0, min(count, self.size - offset))
        head = self._head[offset : offset + count]
        rest = offset + len(head) - len(self._head) + self._skipped
        return head + self._read_at(count - len(head), rest) if count > len(head) else head

    def replace_head(self, head: bytes, skip: int) -> None:
        """Presents `head` in place of the first `skip` bytes of the file."""
        self.size += len(head) - skip
        self._head, self._skipped = head, skip

    def follow(self, other: "Window") -> None:
        """Reads from `other` from now on; it must be another opening of the same bytes."""
        self._read_at = other._read_at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        try:
            data = self.at(self._position, len(buffer))
        except OSError as error:  # libsndfile, which calls this, drops exceptions; `opened` raises it later
            self.error, data = error, b""
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


@contextmanager
def opened(place: AudioSource) -> Iterator[Window]:
    """Opens the bytes of a recording.

    Raises Rejected: not_a_file, changed (since it was listed, or while it was being read), damaged (a parquet file);
    OSError or ValueError if the system cannot open or read it.
    """
    if bucket_url(place.path):
        with _opened_in_bucket(place) as window:
            yield window
        return
    # Opening a pipe without a writer would otherwise block for ever.
    file = os.open(place.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise Rejected("not_a_file", "a folder or a device, not a file")
        if place.stamp and stamp_of(status) != place.stamp:
            raise Rejected("changed", "its size or time has changed since it was listed; list it again")
        window = _window(file, place, status.st_size)
        try:
            yield window
            if window.error:
                raise window.error
        finally:
            if stamp_of(os.fstat(file)) != stamp_of(status):
                raise Rejected("changed", "changed while it was being read")
    finally:
        os.close(file)


@contextmanager
def _opened_in_bucket(place: AudioSource) -> Iterator[Window]:
    """Like `opened`. Raises UserError if the bucket does not answer, so that the command can be run again."""
    url = bucket_url(place.path)
    stamp = place.stamp or stamp_in_bucket(url)
    if stamp is None:
        raise FileNotFoundError(f"{url}: no such object")
    if place.span or place.cell:
        with local_archive(url, *stamp) as path:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                yield _window(file, replace(place, path=str(path)), stamp[0])
            finally:
                os.close(file)
        return
    try:
        data = object_bytes(url, *stamp)
    except Changed as error:
        raise Rejected("changed", f"{error}; list it again") from error
    yield Window(lambda count, at: data[at : at + count], stamp[0])


@contextmanager
def system_errors_as_rejected() -> Iterator[None]:
    """Turns system errors of a file that cannot be opened or read into Rejected: missing, unreadable."""
    try:
        yield
    except FileNotFoundError as error:
        raise Rejected("missing", "no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise Rejected("unreadable", str(error)) from error


def stamp_of(status: os.stat_result) -> tuple[int, int]:
    """Returns size (bytes) and time of change (ns), which nearly always differ if the content differs."""
    return status.st_size, status.st_mtime_ns


def _window(file: int, place: AudioSource, size: int) -> Window:
    if place.cell:
        try:
            data = cell_bytes(place.path, place.stamp, *place.cell)
        except ValueError as error:  # pyarrow's errors are ValueErrors
            raise Rejected("damaged", f"its row cannot be read ({error})") from error
        return Window(lambda count, offset: data[offset : offset + count], len(data))
    offset, size = place.span or (0, size)
    return Window(lambda count, at: os.pread(file, count, offset + at), size)
