"""What tells damage, and the same recording twice: CRC-32 of bytes as they lie on disk, a hash of samples."""

import hashlib
import zlib
from pathlib import Path

import numpy as np

BLOCK = 4 << 20  # bytes read at a time
DIGEST_BYTES = 16  # of SHA-256: two of 10^9 recordings agree by chance with probability 10^-21


def file_crc(path: str | Path) -> int:
    """CRC-32 of a whole file, read by blocks. Raises OSError."""
    crc = 0
    with Path(path).open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            crc = zlib.crc32(block, crc)
    return crc


def content_hash(wave: np.ndarray) -> bytes:
    """The hash of a standardised waveform, int16 (S,): the same whatever codec it is stored in."""
    return hashlib.sha256(np.ascontiguousarray(wave, "<i2")).digest()[:DIGEST_BYTES]
