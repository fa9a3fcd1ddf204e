"""95% intervals by drawing utterances anew (Efron's percentile bootstrap).

The utterance is what is drawn, never the frame: frames of one utterance rise and fall together. Counts are
(U, 2), per utterance: right and all, or errors and length of the reference. A figure is the ratio of their sums.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

SAMPLES = 2000
LEVEL = 0.95


class Estimate(NamedTuple):
    """A figure and its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def ratio(counts: np.ndarray, samples: int = SAMPLES, seed: int = 0) -> Estimate:
    """The ratio of the sums over the utterances, with its interval. counts (U, 2)."""
    counts = np.asarray(counts, np.float64)
    return _estimate(_ratio(counts.sum(0)), _ratio(_draws(len(counts), samples, seed) @ counts))


def figure(keys: Sequence[str], counts: np.ndarray) -> dict[str, Any]:
    """A figure of the results, as JSON: its estimate, and the counts (U, 2) of the utterances `keys` (U,)."""
    counts = np.asarray(counts)
    return {**ratio(counts)._asdict(), "counts": dict(zip(keys, counts.tolist(), strict=True))}


def influences(value: float, without: np.ndarray) -> np.ndarray:
    """Counts (U, 2) of a figure that is no ratio of sums, from `without` (U,), its values without each utterance.

    θ + (U − 1)(mean of θ₋ᵤ − θ₋ᵤ), 1: their ratio is θ, and their spread the jackknife's estimate of its error.
    """
    without = np.asarray(without, np.float64)
    return np.stack([value + (len(without) - 1) * (without.mean() - without), np.ones(len(without))], axis=1)


def paired(a: np.ndarray, b: np.ndarray, samples: int = SAMPLES, seed: int = 0) -> Estimate:
    """The ratio of `a` minus that of `b` over the same utterances, with its interval.

    a, b: counts (U, 2), or (R, U, 2) of R runs of a system (seeds). Every sample draws the utterances anew, the
    same ones for both systems, and, where a system has several runs, its runs anew: the interval covers both the
    choice of test utterances and of seeds.
    """
    a, b = (np.asarray(c, np.float64).reshape(-1, np.shape(c)[-2], 2) for c in (a, b))  # (R, U, 2)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"pairs need the same utterances: {a.shape[1]} and {b.shape[1]}")
    draws = _draws(a.shape[1], samples, seed)  # (N, U)
    generator = np.random.default_rng([seed, 1])
    difference, value = np.zeros(samples), 0.0
    for sign, counts in ((1, a), (-1, b)):
        runs = len(counts)
        scores = _ratio(np.einsum("nu,ruc->nrc", draws, counts))  # (N, R)
        chosen = generator.multinomial(runs, np.full(runs, 1 / runs), samples) / runs  # (N, R)
        difference += sign * (scores * chosen).sum(1)
        value += sign * float(_ratio(counts.sum(1)).mean())
    return _estimate(value, difference)


def _draws(utterances: int, samples: int, seed: int) -> np.ndarray:
    """How often each sample draws each utterance: (N, U), every row sums to U."""
    generator = np.random.default_rng([seed, 0])
    return generator.multinomial(utterances, np.full(utterances, 1 / utterances), samples).astype(np.float64)


def _ratio(counts: np.ndarray) -> np.ndarray:
    return counts[..., 0] / np.maximum(counts[..., 1], 1e-12)


def _estimate(value: float, drawn: np.ndarray) -> Estimate:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(value), float(low), float(high))
