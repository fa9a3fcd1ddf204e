"""Frames (N, D) on the host, and sums over them: batches in float32 on the device, their totals in float64."""

from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np

BATCH = 8_192


def shift_and_scale(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the deviation (D,) of frames (N, D), float64; a constant feature keeps its scale."""
    shift = x.mean(axis=0, dtype=np.float64)
    total = sum(np.square(part - shift).sum(axis=0) for part in np.array_split(x, max(1, len(x) // 100_000)))
    scale = np.sqrt(total / len(x))
    return shift, np.where(scale > 1e-6, scale, 1.0)


def batches(x: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of one shape (one compilation) and the weights of their rows: 0 for what fills the last one."""
    size = min(BATCH, 1 << max(len(x) - 1, 1).bit_length())
    for start in range(0, len(x), size):
        part = x[start : start + size]
        valid = (np.arange(size) < len(part)).astype(np.float32)
        yield np.pad(part, [(0, size - len(part)), (0, 0)]), valid


def totals(chunks: Iterable[np.ndarray], function: Callable[..., tuple[jax.Array, ...]]) -> list[np.ndarray]:
    """Sums of function(batch, weights of its rows) over all frames of the chunks, float64."""
    total = None
    for chunk in chunks:
        for part, valid in batches(chunk):
            sums = [np.asarray(value, np.float64) for value in function(part, valid)]
            total = sums if total is None else [a + b for a, b in zip(total, sums, strict=True)]
    return total


def pooled(chunks: Iterable[np.ndarray], least: int) -> Iterator[np.ndarray]:
    """The same frames in the same order, in chunks of at least so many; the last may be smaller."""
    waiting, count = [], 0
    for chunk in chunks:
        waiting.append(chunk)
        count += len(chunk)
        if count >= least:
            yield np.concatenate(waiting)
            waiting, count = [], 0
    if count:
        yield np.concatenate(waiting)
