"""MP3 (MPEG audio): the chain of frames is followed to the end, and compared with the encoder's own first frame.

Frames have no checksums of their samples. Xing and VBRI headers count the frames; LAME and similar encoders add one
checksum of all frames. Without these, only damage that breaks the chain of frames is detected.
"""

import struct

from jepa_speech.ingest.audio_source import Rejected, Window
from jepa_speech.ingest.containers import id3
from jepa_speech.ingest.containers.crc16 import crc16
from jepa_speech.ingest.containers.promise import Promise

# kbit/s by code 1 to 14, for (MPEG 1?, layer)
BIT_RATES = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES = (44_100, 48_000, 32_000)  # Hz, MPEG 1; half of it for MPEG 2, a quarter for 2.5
TAGS = (b"TAG", b"APETAGEX", b"ID3", b"LYRICSBEGIN")  # what may follow the last frame
LAME_LENGTH, LAME_END = 148, 154  # after "Xing": bytes of all frames (4), checksum of all frames but the first (2)
PIECE = 1 << 22  # bytes
FREE = 0  # in place of the size of a frame in free format, whose header does not give the bit rate


def is_it(file: Window) -> bool:
    return _frame(file.at(id3.end(file), 4)) is not None


def check(file: Window) -> Promise:
    """Raises Rejected: truncated (the last frame is cut, or frames are missing), bad_length, damaged."""
    begin = at = id3.end(file)
    begins = _frame(file.at(at, 4))
    assert begins is not None  # is_it
    stream, size = begins
    first = file.at(at, max(size, 64))
    promised = _promised_frames(first)
    found = 0 if promised is None else -1  # the count excludes the frame that holds it
    while at < file.size:
        frame = _frame(file.at(at, 4))
        if frame is None:
            rest = file.at(at, 11)
            if rest.startswith(TAGS) or not any(file.at(at, 1 << 16)):
                break
            if file.size - at < 4:
                raise Rejected("truncated", "its last frame is incomplete")
            raise Rejected("damaged", f"no MP3 frame where one must begin, at byte {at}")
        if frame[0] != stream:
            raise Rejected("damaged", f"its MP3 frame at byte {at} has another format than the first")
        if frame[1] == FREE:
            return Promise()
        at, found = at + frame[1], found + 1
    if at > file.size:
        raise Rejected("truncated", "its last frame is incomplete")
    if promised is not None and found < promised:
        raise Rejected("truncated", f"{found} frames of the {promised} that its MP3 header counts")
    if promised is not None and found > promised + 1:  # some encoders leave out the last
        raise Rejected("bad_length", f"{found} frames, but its MP3 header counts {promised}")
    checksum = _promised_checksum(first, at - begin)
    if checksum is not None and checksum != _checksum(file, begin + size, at):
        raise Rejected("damaged", f"its frames do not match the checksum {checksum:#06x} of its encoder")
    return Promise()


def complete(file: Window) -> None:
    """Replaces any tag by an empty one, and adds a frame that counts the frames if it is missing and needed.

    libsndfile mistakes an MP3 without a tag for another format if anything in the current folder is named "._" or
    ".AppleDouble" (findings/libsndfile-stray-resource-fork.sh).
    """
    begin = id3.end(file)
    file.replace_head(id3.EMPTY + _missing_count(file, begin), begin)


def _missing_count(file: Window, at: int) -> bytes:
    """Returns a frame with the number of frames, if an MP3 of several bit rates lacks one; otherwise b"".

    Without it, libsndfile estimates the length from the bit rate of the first frame and stops there.
    """
    first = file.at(at, 64)
    begins = _frame(first)
    assert begins is not None  # is_it
    version, layer, _ = begins[0]
    if layer != 3 or any(name in first[:48] for name in (b"Xing", b"Info")):
        return b""
    count, codes = 0, set()
    while frame := _frame(head := file.at(at, 4)):
        if frame[1] == FREE:
            return b""
        codes.add(head[2] >> 4)
        at, count = at + frame[1], count + 1
    return _counting_frame(first, version == 3, count) if len(codes) > 1 else b""


def _counting_frame(head: bytes, first_version: bool, count: int) -> bytes:
    """Returns a silent Xing frame, in the format of the given header, that holds the number of frames that follow."""
    head = bytes([0xFF, head[1] | 1, 0x90 | head[2] & 0x0C, head[3]])  # no checksum, code 9 of bit rates, no padding
    mono = head[3] >> 6 == 3
    side = bytes((17 if mono else 32) if first_version else (9 if mono else 17))
    frame = _frame(head)
    assert frame is not None
    size = frame[1]
    return (head + side + b"Xing" + struct.pack(">II", 1, count)).ljust(size, b"\0")


def _promised_checksum(first: bytes, music_bytes: int) -> int | None:
    """Returns LAME's checksum of all frames but the first; None if its byte count differs, as after editing."""
    at = max(first.find(b"Xing", 4, 48), first.find(b"Info", 4, 48))
    if at < 0 or len(first) < at + LAME_END:
        return None
    length, checksum = struct.unpack(">IH", first[at + LAME_LENGTH : at + LAME_END])
    return checksum if checksum and length == music_bytes else None


def _checksum(file: Window, begin: int, end: int) -> int:
    checksum = 0
    for at in range(begin, end, PIECE):
        checksum = crc16(file.at(at, min(PIECE, end - at)), checksum)
    return checksum


def _frame(head: bytes) -> tuple[tuple[int, int, int], int] | None:
    """Returns ((version, layer, rate), bytes) of a frame from its header of 4 bytes; None if it is not a frame."""
    if len(head) < 4 or head[0] != 0xFF or head[1] >> 5 != 7:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)  # version 3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5
    bit_code, rate_code, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or layer == 4 or bit_code == 15 or rate_code == 3:
        return None
    rate = RATES[rate_code] // {3: 1, 2: 2, 0: 4}[version]
    if bit_code == 0:
        return (version, layer, rate), FREE
    bits = 1000 * BIT_RATES[version == 3, layer][bit_code - 1]
    if layer == 1:
        return (version, layer, rate), 4 * (12 * bits // rate + padding)
    return (version, layer, rate), (72 if layer == 3 and version != 3 else 144) * bits // rate + padding


def _promised_frames(first: bytes) -> int | None:
    """Returns the number of further frames, if the first frame is an encoder's header; otherwise None."""
    for name, flags_at, count_at in ((b"Xing", 4, 8), (b"Info", 4, 8), (b"VBRI", None, 14)):
        at = first.find(name, 4, 48)
        if at >= 0 and len(first) >= at + count_at + 4 and (flags_at is None or first[at + 7] & 1):
            return int.from_bytes(first[at + count_at : at + count_at + 4], "big")
    return None
