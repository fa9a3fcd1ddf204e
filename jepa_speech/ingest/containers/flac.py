"""FLAC: STREAMINFO is compared with the first frame here, and with the decoded samples later (RFC 9639).

The decoder verifies the checksum of each frame. STREAMINFO has no checksum of its own, but an MD5 of all samples.
"""

from jepa_speech.ingest.audio_source import Rejected, Window
from jepa_speech.ingest.containers import id3
from jepa_speech.ingest.containers.promise import Promise

RATES = (0, 88_200, 176_400, 192_000, 8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000)  # Hz, by code


def is_it(file: Window) -> bool:
    at = id3.end(file)
    return file.at(at, 4) == b"fLaC"


def check(file: Window) -> Promise:
    """Raises Rejected: truncated (ends before the first frame), damaged (two rates), unreadable (no length)."""
    at, info = id3.end(file) + 4, None
    while True:
        head = file.at(at, 4)
        length = int.from_bytes(head[1:], "big")
        if len(head) < 4 or at + 4 + length > file.size:
            raise Rejected("truncated", "the file ends within its FLAC header")
        if head[0] & 127 == 0 and length >= 34:
            info = file.at(at + 4, 34)
        at += 4 + length
        if head[0] & 128:
            break
    if info is None:
        raise Rejected("damaged", "its FLAC header does not describe the stream")
    packed = int.from_bytes(info[10:18], "big")
    rate, bits, frames = packed >> 44, (packed >> 36 & 31) + 1, packed & (1 << 36) - 1
    if at == file.size:
        raise Rejected("empty" if not frames else "truncated", "a FLAC header without samples")
    if not frames:  # libsndfile 1.2 fails at the end of such a file
        raise Rejected("unreadable", "its FLAC header gives no length, as in a stream; encode it again")
    if (other := _frame_rate(file.at(at, 16))) not in (0, rate):
        raise Rejected("damaged", f"its FLAC header says {rate} Hz, its first frame {other} Hz")
    md5 = info[18:34]
    return Promise(frames=frames, md5=md5 if any(md5) else None, bits=bits)


def _frame_rate(frame: bytes) -> int:
    """Returns the rate in a frame's header, Hz; 0 if it refers to STREAMINFO, or is no frame (the decoder decides)."""
    if len(frame) < 16 or frame[0] != 0xFF or frame[1] >> 2 != 0x3E:
        return 0
    size_code, rate_code = frame[2] >> 4, frame[2] & 15
    at = 5 + {6: 1, 7: 2}.get(size_code, 0)  # after the number of the first frame, 0, in one byte
    if rate_code == 12:
        return 1000 * frame[at]
    if rate_code in (13, 14):
        return int.from_bytes(frame[at : at + 2], "big") * (1 if rate_code == 13 else 10)
    return RATES[rate_code] if rate_code < 12 else 0
