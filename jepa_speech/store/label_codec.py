"""Compression of posteriors: quantisation of probabilities, and blocks of frames as bytes.

Each frame keeps its k most likely components, except those below LEAST; most frames need few. A probability is
rounded to a level q of LEVELS, p = (q / LEVELS)³: the larger, the finer, which suits the KL divergence if components of
every magnitude are about equally frequent. Decoded probabilities, with the pool of all others, are rescaled to a sum
of 1.

A block holds BLOCK frames of one recording, compressed by zlib: the number of components of each frame, the level of
its pool, the components in ascending order as differences, and their levels. Huffman coding shortens a component from
24 to about 12 bits. zlib's checksum detects damaged blocks.
"""

import zlib
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    import jax

BLOCK = 256  # frames: 5 s
LEAST = 2e-5
LEVELS = 127
MOST = 255  # most components of a frame

Array = TypeVar("Array", np.ndarray, "jax.Array")


def masses(levels: Array) -> Array:
    """Returns (q / LEVELS)³ as float32."""
    return (levels.astype(np.float32) / LEVELS) ** 3


def expand(levels: Array, pool: Array) -> Array:
    """Returns probabilities (…, k) float32 of levels (…, k) and the pool's level (…). With the pool, they sum to 1."""
    kept = masses(levels)
    return kept / (kept.sum(-1) + masses(pool))[..., None]


def encode(ids: np.ndarray, levels: np.ndarray, pool: np.ndarray) -> bytes:
    """Packs a block of ids, levels (n, k) and pool (n,) uint8. Components of level 0 are left out."""
    kept = levels > 0
    ids = ids.astype(np.int32)
    order = np.argsort(np.where(kept, ids, 1 << 16), axis=1)  # components of level 0 come last
    ids, levels, kept = (np.take_along_axis(x, order, axis=1) for x in (ids, levels, kept))
    steps = np.diff(ids, axis=1, prepend=-1)[kept] - 1
    parts = kept.sum(axis=1), pool, steps & 255, steps >> 8, levels[kept]
    return zlib.compress(b"".join(part.astype(np.uint8).tobytes() for part in parts))


def decode(block: bytes, frames: int, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns ids (n, k) uint16 and levels (n, k) uint8, by falling level, and pool (n,), of a block of n frames.

    A frame with fewer than k components repeats the first at level 0. Raises ValueError for a damaged block.
    """
    try:
        raw = np.frombuffer(zlib.decompress(block), np.uint8)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    counts, pool, rest = raw[:frames], raw[frames : 2 * frames], raw[2 * frames :]
    held = np.arange(k) < counts[:, None]  # (n, k)
    if len(pool) != frames or len(rest) != 3 * counts.sum(dtype=np.int64) or 3 * np.sum(held) != len(rest):
        raise ValueError("the block has a wrong size")
    low, high, codes = rest.reshape(3, -1)
    if not (codes.all() and (counts | pool).all()) or max(codes.max(initial=0), pool.max()) > LEVELS:
        raise ValueError("the block has an invalid level")
    steps, levels = np.zeros((frames, k), np.int32), np.zeros((frames, k), np.uint8)
    steps[held] = low.astype(np.int32) + (high.astype(np.int32) << 8) + 1
    levels[held] = codes
    order = np.argsort(-levels.astype(np.int16), axis=1, kind="stable")
    ids = np.take_along_axis(np.cumsum(steps, axis=1) - 1, order, axis=1)
    levels = np.take_along_axis(levels, order, axis=1)
    return np.where(levels > 0, ids, ids[:, :1]).astype(np.uint16), levels, pool
