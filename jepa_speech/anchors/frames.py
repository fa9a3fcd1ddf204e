"""Sums over frames (N, D) that come in chunks: float32 per batch on the device, float64 in total on the host.

Several processes share a pass: each takes every n-th chunk, and their sums are added.
"""

from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils  # 2026-11: experimental, no removal announced, no replacement

from jepa_speech.errors import UsageError

BATCH = 2_048  # on a CPU: posteriors of 1,024 components then fit the cache of a core
LARGE_BATCH = 32_768  # on other devices: fewer transfers, since sums return to the host after each batch
Chunks = Sequence[np.ndarray]  # the frames (n, D) of a pass, the same in every pass, computed on access
Sums = list[np.ndarray]
Begun = tuple[int, Sums]  # number of finished chunks, and their sums


def check_enough(sample: np.ndarray, components: int) -> None:
    """Raises UsageError if a sample (n, D) has fewer frames than there are components."""
    if components > len(sample):
        raise UsageError(
            f"{components} components need at least as many frames, but the sample has {len(sample)}: "
            "choose fewer components, or use more audio"
        )


def shift_and_scale(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and standard deviation (D,) of frames (N, D), float64; the scale of a constant feature is 1."""
    shift = x.mean(axis=0, dtype=np.float64)
    total = sum(np.square(part - shift).sum(axis=0) for part in np.array_split(x, max(1, len(x) // 100_000)))
    scale = np.sqrt(total / len(x))
    return shift, np.where(scale > 1e-6, scale, 1.0)


def whitening(z: np.ndarray) -> np.ndarray:
    """Returns R (D, D) float32 such that z R has uncorrelated columns of variance 1, by falling variance in z.

    z (N, D) has mean 0. Directions with less than 1e-4 of the mean variance are scaled as if they had that much.
    """
    parts = np.array_split(z, max(1, len(z) // 100_000))
    covariance = sum(part.T @ part for part in (part.astype(np.float64) for part in parts)) / len(z)
    variances, directions = np.linalg.eigh(covariance)
    variances = np.maximum(variances, 1e-4 * variances.mean())
    return (directions / np.sqrt(variances))[:, ::-1].astype(np.float32)


def batches(x: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields batches of one shape, so that one program serves all, and their row weights: 1, or 0 for padding."""
    largest = BATCH if jax.default_backend() == "cpu" else LARGE_BATCH
    size = min(largest, 1 << max(len(x) - 1, 1).bit_length())
    for start in range(0, len(x), size):
        part = x[start : start + size]
        valid = (np.arange(size) < len(part)).astype(np.float32)
        yield np.pad(part, [(0, size - len(part)), (0, 0)]), valid


def totals(
    chunks: Chunks,
    function: Callable[..., tuple[jax.Array, ...]],
    begun: Begun = (0, []),
    after: Callable[[Begun], None] = lambda begun: None,
) -> Sums:
    """Returns the float64 sums of function(batch, row weights) over all chunks and all processes.

    begun: finished chunks of an interrupted pass. `after` is called with the new value of it after every chunk.
    """
    done, total = begun
    for number in range(jax.process_index(), len(chunks), jax.process_count()):
        if number < done:
            continue
        for part, valid in batches(chunks[number]):
            total = _add(total, function(part, valid))
        after((number + 1, total))
    if not total:  # there are fewer chunks than processes
        part, valid = next(batches(chunks[0][:1]))
        total = _add(total, function(part, np.zeros_like(valid)))
    return over_processes(total)


def over_processes(sums: Sums) -> Sums:
    """Adds float64 arrays over all processes, in the same order on each, so that results are bit-identical."""
    if jax.process_count() == 1:
        return sums
    flat = np.concatenate([np.ravel(value) for value in sums])
    # Sent as pairs of 32-bit integers, because jax would round float64 to float32.
    gathered = np.ascontiguousarray(multihost_utils.process_allgather(flat.view(np.uint32)))
    added = gathered.view(np.float64).sum(axis=0)
    ends = np.cumsum([np.size(value) for value in sums])
    return [part.reshape(np.shape(value)) for part, value in zip(np.split(added, ends[:-1]), sums, strict=True)]


def usage_entropy(counts: np.ndarray) -> float:
    """Returns the entropy of the usage counts (K,), divided by log K: 1 if all components are used equally, 0 if only
    one is.
    """
    p = counts[counts > 0] / counts.sum(dtype=np.float64)
    return float(-np.sum(p * np.log(p)) / np.log(max(len(counts), 2))) + 0.0  # no -0.0


def _add(total: Sums, values: tuple[jax.Array, ...]) -> Sums:
    wide = [np.asarray(value, np.float64) for value in values]
    return [a + b for a, b in zip(total, wide, strict=True)] if total else wide
