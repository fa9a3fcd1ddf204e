"""Ogg (Vorbis, Opus, FLAC): checksum and number of every page, end-of-stream flag, last position (RFC 3533).

libogg skips a page with a wrong checksum, and libsndfile does not report it.
"""

import struct

from isal.isal_zlib import crc32

from jepa_speech.ingest.audio_source import Rejected, Window
from jepa_speech.ingest.containers.promise import Promise

BEGIN, END = 2, 4  # flags of a stream's first and last page
OPUS_RATE = 48_000  # positions in Opus refer to this rate, whatever the input's rate was (RFC 7845)
MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def is_it(file: Window) -> bool:
    return file.at(0, 4) == b"OggS"


def check(file: Window) -> Promise:
    """Raises Rejected: truncated, damaged, refused (several streams in one file)."""
    at, number, flags, position, opus_skip, first = 0, 0, 0, 0, None, None
    while at < file.size:
        page = _page(file, at)
        flags, reached, serial, sequence, checksum = struct.unpack("<5xBqIII", page[:26])
        position = position if reached == -1 else reached  # -1: no packet ends on this page
        if crc(page[:22] + bytes(4) + page[26:]) != checksum:
            raise Rejected("damaged", f"the checksum of its Ogg page at byte {at} is wrong")
        if first is None:
            first = serial
            body = page[27 + page[26] :]
            if body[:8] == b"OpusHead" and len(body) >= 12:
                opus_skip = struct.unpack("<H", body[10:12])[0]
        if serial != first or (flags & BEGIN and number):
            raise Rejected("refused", "several streams in one Ogg file, of which only the first would be read")
        if sequence != number:
            raise Rejected("damaged", f"its Ogg page {number} is missing")
        at, number = at + len(page), number + 1
    if not flags & END:
        raise Rejected("truncated", "its last Ogg page does not end the stream")
    return Promise(frames=position) if opus_skip is None else Promise(seconds=(position - opus_skip) / OPUS_RATE)


def _page(file: Window, at: int) -> bytes:
    head = file.at(at, 27 + 255)
    if len(head) >= 4 and head[:4] != b"OggS":
        raise Rejected("damaged", f"no Ogg page where one must begin, at byte {at}")
    size = 27 + head[26] + sum(head[27 : 27 + head[26]]) if len(head) >= 27 else 27
    page = file.at(at, size)
    if len(page) < size:
        raise Rejected("truncated", f"its last Ogg page, at byte {at}, is incomplete")
    return page


def crc(page: bytes) -> int:
    """Returns Ogg's CRC: zlib's polynomial with mirrored bits of bytes and result, initial value 0, not inverted."""
    mirrored = crc32(page.translate(MIRRORED), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int(f"{mirrored:032b}"[::-1], 2)
