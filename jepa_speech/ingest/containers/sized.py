"""AIFF, AU, CAF, NIST SPHERE, Sony Wave64 and VOC: sizes in the headers are compared with the file's size.

libsndfile reads the rest of a truncated file of these types without an error.
"""

import struct
from collections.abc import Callable, Iterator

from jepa_speech.ingest.audio_source import Rejected, Window
from jepa_speech.ingest.containers.promise import Promise

UNKNOWN = 0xFFFF_FFFF  # the size of AU data that was written to a pipe
PIPED = 0x7F00_0000  # the least size of AIFF data that was written to a pipe; some writers leave 0
NIST_CODINGS = ("pcm", "ulaw", "mu-law", "alaw")  # codings with a fixed size per sample
NIST_BYTES = 1 << 16  # most bytes read of a header; libsndfile reads 1,024


def is_it(file: Window) -> bool:
    return _ends_of(file) is not None


def check(file: Window) -> Promise:
    """Raises Rejected: truncated."""
    ends = _ends_of(file)
    assert ends is not None  # is_it
    for end in ends(file):
        if end > file.size:
            raise Rejected("truncated", f"{end - file.size} bytes that its header promises are missing")
    return Promise()


def _ends_of(file: Window) -> Callable[[Window], Iterator[int]] | None:
    """Returns the function that gives the ends (bytes from the start) of all parts of such a file."""
    head = file.at(0, 20)
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return _aiff
    if head[:4] in (b".snd", b"dns."):
        return _au
    starts = {b"caff": _caf, b"NIST_1A": _nist, b"riff\x2e\x91\xcf\x11": _w64, b"Creative Voice File\x1a": _voc}
    return next((ends for start, ends in starts.items() if head.startswith(start)), None)


def _aiff(file: Window) -> Iterator[int]:
    at = 12
    while len(chunk := file.at(at, 8)) == 8:
        name, length = struct.unpack(">4sI", chunk)
        if name == b"SSND" and not 0 < length < PIPED:
            return
        yield at + 8 + length
        if name == b"SSND":  # anything may follow, such as tags
            return
        at += 8 + length + length % 2


def _au(file: Window) -> Iterator[int]:
    if len(head := file.at(0, 12)) == 12:
        offset, length = struct.unpack(">4xII" if head[:1] == b"." else "<4xII", head)
        yield offset + (0 if length == UNKNOWN else length)


def _caf(file: Window) -> Iterator[int]:
    at, sound = 8, False
    while len(chunk := file.at(at, 12)) == 12:
        name, length = struct.unpack(">4sq", chunk)
        sound = sound or name == b"data"
        if length < 0 or (sound and name not in (b"data", b"pakt")):  # -1: data up to the end of the file
            return
        yield at + 12 + length
        at += 12 + length


def _nist(file: Window) -> Iterator[int]:
    start = file.at(8, 8).strip()
    size = int(start) if start.isdigit() else 0
    yield size
    lines = [line.split() for line in file.at(0, min(size, NIST_BYTES)).partition(b"end_head")[0].splitlines()]
    fields = {line[0]: line[2].decode("ascii", "replace") for line in lines if len(line) == 3}
    numbers = [fields.get(name, "") for name in (b"sample_count", b"sample_n_bytes", b"channel_count")]
    if fields.get(b"sample_coding", "pcm") in NIST_CODINGS and all(one.isdigit() for one in numbers):
        count, width, channels = map(int, numbers)
        yield size + count * width * channels


def _w64(file: Window) -> Iterator[int]:
    at = 40
    while len(chunk := file.at(at, 24)) == 24:
        name, length = struct.unpack("<4s12xq", chunk)  # the length includes the chunk's header
        if length < 24:
            return
        yield at + length
        if name == b"data":
            return
        at += (length + 7) // 8 * 8


def _voc(file: Window) -> Iterator[int]:
    at = int.from_bytes(file.at(20, 2), "little")
    while len(block := file.at(at, 4)) == 4 and block[0] and any(block[1:]):  # a block of type 0 ends the file
        at += 4 + int.from_bytes(block[1:], "little")
        yield at
