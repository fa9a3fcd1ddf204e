"""Distances of sequences: the angle between frames, averaged along the path of dynamic time warping."""

from collections.abc import Sequence

import numpy as np

BATCH = 4096  # pairs at a time


def distances(x: Sequence[np.ndarray], pairs: np.ndarray) -> np.ndarray:
    """Returns the distances (P,) of pairs (P, 2) of indices into x, sequences (T_i, D). A right angle is 1/2."""
    unit = [frames / np.maximum(np.linalg.norm(frames, axis=1, keepdims=True), 1e-12) for frames in x]
    sizes = np.array([len(frames) for frames in x])
    found = np.empty(len(pairs))
    order = np.argsort(sizes[pairs].sum(1), kind="stable")  # sorted by length, for little padding
    for start in range(0, len(pairs), BATCH):
        batch = order[start : start + BATCH]
        first, second = pairs[batch].T
        cosines = np.matmul(stack(unit, first), stack(unit, second).swapaxes(1, 2))  # (P, N, M)
        angles = np.arccos(np.clip(cosines, -1, 1)) / np.pi
        found[batch] = along_the_path(angles, sizes[first], sizes[second])
    return found


def stack(x: Sequence[np.ndarray], chosen: np.ndarray) -> np.ndarray:
    """Stacks sequences (T_i, D) to (P, T, D), padded by zeros."""
    stacked = np.zeros((len(chosen), max(len(x[i]) for i in chosen), x[chosen[0]].shape[1]), np.float32)
    for row, i in zip(stacked, chosen, strict=True):
        row[: len(x[i])] = x[i]
    return stacked


def along_the_path(costs: np.ndarray, n: np.ndarray, m: np.ndarray) -> np.ndarray:
    """Returns the mean cost (P,) along the cheapest path from (0, 0) to (n − 1, m − 1) of costs (P, N, M).

    Steps are (1, 1), (0, 1) and (1, 0), in this order of preference among equally cheap ones.
    """
    pairs, rows, columns = costs.shape
    total = np.full((rows + 1, columns + 1, pairs), np.inf)
    length = np.zeros((rows + 1, columns + 1, pairs), np.int32)
    total[0, 0] = 0
    for i in range(rows):
        for j in range(columns):
            diagonal, left, up = total[i, j], total[i + 1, j], total[i, j + 1]
            before = np.minimum(np.minimum(diagonal, left), up)
            total[i + 1, j + 1] = costs[:, i, j] + before
            one = np.where(left == before, length[i + 1, j], length[i, j + 1])
            length[i + 1, j + 1] = 1 + np.where(diagonal == before, length[i, j], one)
    at = n, m, np.arange(pairs)
    return total[at] / length[at]
