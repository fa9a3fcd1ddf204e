"""ID3v2 tags, which may precede MP3 and FLAC."""

from jepa_speech.ingest.audio_source import Window

EMPTY = b"ID3\x04" + bytes(5) + b"\x0a" + bytes(10)  # a tag of padding alone; libsndfile refuses one of length 0


def end(file: Window) -> int:
    """Returns the byte at which a leading tag ends; 0 if there is none."""
    head = file.at(0, 10)
    if len(head) < 10 or head[:3] != b"ID3":
        return 0
    size = sum((byte & 127) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    return 10 + size + (10 if head[5] & 16 else 0)
