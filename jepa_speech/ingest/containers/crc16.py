"""CRC-16/ARC, which LAME writes over the frames of an MP3, computed on many stretches of the bytes in parallel.

The checksum is linear. For two consecutive stretches, it is that of the first, advanced by as many zero bytes as the
second has, xor that of the second.
"""

import numpy as np

STRETCHES = 256


def _table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint16)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ 0xA001, table >> 1).astype(np.uint16)
    return table


TABLE = _table()


def crc16(data: bytes, before: int = 0) -> int:
    """Returns the checksum of `data`, preceded by bytes whose checksum is `before`."""
    length = max(-(-len(data) // STRETCHES), 2)
    rows = np.zeros((STRETCHES + 16, length), np.uint8)  # zeros in front change nothing; the last 16 rows stay zero
    rows[:STRETCHES].reshape(-1)[STRETCHES * length - len(data) :] = np.frombuffer(data, np.uint8)
    states = np.zeros(STRETCHES + 16, np.uint16)
    states[STRETCHES:] = 1 << np.arange(16)  # tracks each bit of a state over the length of a stretch
    for column in np.ascontiguousarray(rows.T):
        states = TABLE[(states ^ column) & 255] ^ states >> 8
    images = states[STRETCHES:].tolist()
    moved = _moved_by(len(data), before)
    total = 0
    for state in states[:STRETCHES].tolist():
        total = _apply(images, total) ^ state
    return total ^ moved


def _apply(images: list[int], state: int) -> int:
    result = 0
    for bit, image in enumerate(images):
        if state >> bit & 1:
            result ^= image
    return result


def _moved_by(zeros: int, state: int) -> int:
    """Returns a checksum advanced by this many zero bytes, by repeated squaring."""
    images = [int(TABLE[(1 << bit) & 255]) ^ (1 << bit) >> 8 for bit in range(16)]  # by one byte
    while zeros:
        if zeros & 1:
            state = _apply(images, state)
        images = [_apply(images, image) for image in images]
        zeros >>= 1
    return state
