"""Where a recording lies: a file, a stretch of an archive's bytes, a cell of a table; opened, or refused."""

import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jepa_speech.ingest.parquet_audio import cell_bytes


class Rejected(Exception):
    """A recording that cannot be used. `reason` is a short stable code, `detail` one line for people."""

    def __init__(self, reason: str, detail: str):
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, kw_only=True)
class AudioSource:
    """A recording's file, and what of it is the recording."""

    path: str = ""  # absolute
    stamp: tuple[int, ...] = ()  # (bytes, time of change) when the file was listed; () if it was not
    span: tuple[int, ...] = ()  # (offset, bytes) of an archive's member
    cell: tuple[int, ...] = ()  # (row group, row in it) of a parquet file
    start: float = 0.0  # s, of a segment
    seconds: float | None = None  # of a segment; None: to the end
    channel: int | None = None  # None: the mean of all
    frames: int | None = None  # of the whole file at its own rate, as its manifest claims

    def __post_init__(self) -> None:
        for name in ("stamp", "span", "cell"):  # lists, where they come from JSON
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def is_segment(self) -> bool:
        return self.start > 0 or self.seconds is not None


class Window(io.RawIOBase):
    """Bytes read by position, as a file of their own that starts at 0 and ends after `size`."""

    def __init__(self, read_at: Callable[[int, int], bytes], size: int):
        super().__init__()
        self.size = size
        self.error: OSError | None = None
        self._read_at, self._position = read_at, 0
        self._head, self._skipped = b"", 0

    def at(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset` on; fewer at the end."""
        count = max(0, min(count, self.size - offset))
        head = self._head[offset : offset + count]
        rest = offset + len(head) - len(self._head) + self._skipped
        return head + self._read_at(count - len(head), rest) if count > len(head) else head

    def replace_head(self, head: bytes, skip: int) -> None:
        """Presents `head` in place of the first `skip` bytes of the file."""
        self.size += len(head) - skip
        self._head, self._skipped = head, skip

    def follow(self, other: "Window") -> None:
        """Reads on from `other`, another opening of the same bytes."""
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
        except OSError as error:  # the decoder that calls could not pass it on; `opened` raises it in the end
            self.error, data = error, b""
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


@contextmanager
def opened(place: AudioSource) -> Iterator[Window]:
    """The bytes of a place to read.

    Raises Rejected: not_a_file, changed (since it was listed, or while it was being read), damaged (a parquet file);
    OSError or ValueError where the system cannot open or read it.
    """
    # Without blocking: a pipe that nobody writes to would wait for ever.
    file = os.open(place.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise Rejected("not_a_file", "a folder or a device, not a file")
        if place.stamp and stamp_of(status) != place.stamp:
            raise Rejected("changed", "another size or time than when it was listed; list it again")
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
def system_errors_as_verdicts() -> Iterator[None]:
    """Turns what the system says of a file that it cannot open or read into Rejected: missing, unreadable."""
    try:
        yield
    except FileNotFoundError as error:
        raise Rejected("missing", "no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise Rejected("unreadable", str(error)) from error


def stamp_of(status: os.stat_result) -> tuple[int, int]:
    """(bytes, ns): another content nearly always has another of these."""
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
