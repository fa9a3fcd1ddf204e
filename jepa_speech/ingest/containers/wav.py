"""WAV (RIFF, RF64): sizes of chunks are compared with the file's size."""

import struct

from jepa_speech.ingest.audio_source import Rejected, Window
from jepa_speech.ingest.containers.promise import Promise

STREAM_BYTES = 0x7FFF_0000  # a WAV written to a pipe claims 2 or 4 GB, because its size was not known
UNKNOWN_SIZE = b"\xff\xff\xff\xff"
RIFF_SLACK = 8  # some writers also count the header of the first chunk


def is_it(file: Window) -> bool:
    head = file.at(0, 12)
    return head[:4] in (b"RIFF", b"RF64") and head[8:] == b"WAVE"


def check(file: Window) -> Promise:
    """Raises Rejected: truncated (bytes are missing), bad_length (bytes belong to no chunk)."""
    at, length, long_sizes = _samples(file)
    if at is not None and (length < STREAM_BYTES or long_sizes) and not _is_piped(file):
        _check_end(file, at + length, long_sizes)
    return Promise()


def complete(file: Window) -> None:
    """Marks the sizes of a WAV as unknown if they are 0, because libsndfile would find no samples in it."""
    if _is_piped(file):
        at, _, _ = _samples(file)
        assert at is not None
        file.replace_head(file.at(0, at - 4) + UNKNOWN_SIZE, at)


def _is_piped(file: Window) -> bool:
    """Whether samples follow a header without sizes, as written to a pipe."""
    at, length, long_sizes = _samples(file)
    if at is None or length or long_sizes:
        return False
    unknown = _riff_size(file) + 8 <= at or _riff_size(file) >= STREAM_BYTES
    return unknown and not _only_chunks(file, at)


def _samples(file: Window) -> tuple[int | None, int, tuple[int, int] | None]:
    """Returns (first byte of the samples, None if there are none; number of their bytes; sizes of RF64)."""
    at, long_sizes = 12, None
    while at < file.size:
        chunk = file.at(at, 24)
        if len(chunk) < 8:
            break
        name, length = struct.unpack("<4sI", chunk[:8])
        if name == b"ds64" and len(chunk) == 24:
            long_sizes = struct.unpack("<QQ", chunk[8:])  # RF64: sizes over 4 GB
        if name == b"data":
            return at + 8, long_sizes[1] if length == 0xFFFF_FFFF and long_sizes else length, long_sizes
        at += 8 + length + length % 2
    return None, 0, long_sizes


def _check_end(file: Window, end: int, long_sizes: tuple[int, int] | None) -> None:
    if end > file.size:
        raise Rejected("truncated", f"{end - file.size} bytes of audio that its WAV header promises are missing")
    riff = long_sizes[0] if long_sizes else _riff_size(file)
    if file.size + RIFF_SLACK < riff + 8 < STREAM_BYTES:
        raise Rejected("truncated", f"{riff + 8 - file.size} bytes that its WAV header promises are missing")
    # Some writers leave out the padding byte after an odd number of bytes.
    if not any(_only_chunks(file, at) for at in {end, end + end % 2}):
        raise Rejected("bad_length", f"{file.size - end} bytes follow the samples that its WAV header promises")


def _riff_size(file: Window) -> int:
    return struct.unpack("<I", file.at(4, 4))[0]


def _only_chunks(file: Window, at: int) -> bool:
    """Whether only complete chunks follow from a byte on."""
    while at + 8 <= file.size:
        name, length = struct.unpack("<4sI", file.at(at, 8))
        if not all(32 <= byte < 127 for byte in name) or at + 8 + length > file.size:
            return False
        at += 8 + length + length % 2
    return True
