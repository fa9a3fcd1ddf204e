"""95% confidence intervals by resampling utterances (Efron's percentile bootstrap).

Utterances are resampled, not frames, because frames of one utterance are correlated. Counts are (U, 2), per utterance:
right and all, or errors and length of the reference. A figure is the ratio of their sums. For an empty reference, the
errors (insertions) count in the sum, as in jiwer. A sample in which all references are empty has no rate and is left
out. If all references are empty, the figure is NaN, shown as n/a.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

SAMPLES = 2000
LEVEL = 0.95


class Estimate(NamedTuple):
    """A figure and its interval; NaN if all references are empty."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "n/a"
        return f"{100 * self.value:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"

    def as_json(self) -> dict[str, float | None]:
        """Returns the values as a dict, with None for NaN, which JSON lacks."""
        return {name: None if np.isnan(x) else x for name, x in self._asdict().items()}


def estimate_of(figure: Mapping[str, Any]) -> Estimate:
    """The estimate that `as_json` wrote into a figure."""
    return Estimate(*(np.nan if figure[name] is None else figure[name] for name in Estimate._fields))


def ratio(counts: np.ndarray, samples: int = SAMPLES, seed: int = 0, linear: bool = False) -> Estimate:
    """Returns the ratio of the sums of counts (U, 2), with its interval. linear: the counts are `influences`."""
    counts = np.asarray(counts, np.float64)
    value, drawn = _ratio(counts.sum(0)), _ratio(_draws(len(counts), samples, seed) @ counts)
    return _estimate(float(value), _within(drawn, value) if linear else drawn)


def figure(keys: Sequence[str], counts: np.ndarray, linear: bool = False) -> dict[str, Any]:
    """Returns a figure as JSON values: its estimate, and the counts (U, 2) of the utterances `keys` (U,).

    NaN becomes None. linear: the counts are `influences`, which the results record.
    """
    counts = np.asarray(counts)
    estimate = ratio(counts, linear=linear).as_json()
    return estimate | {"counts": dict(zip(keys, counts.tolist(), strict=True))} | ({"linear": True} if linear else {})


def influences(value: float, without: np.ndarray) -> np.ndarray:
    """Returns counts (U, 2) for a figure that is not a ratio of sums, by the jackknife.

    without (U,): the values θ₋ᵤ of the figure without each utterance. The counts are θ + (U − 1)(mean of θ₋ᵤ − θ₋ᵤ)
    and 1. Their ratio is θ, and their spread is the jackknife estimate of its error. Ratios of resampled counts can
    leave [0, 1], the range of such figures; `linear=True` keeps intervals in it.
    """
    without = np.asarray(without, np.float64)
    return np.stack([value + (len(without) - 1) * (without.mean() - without), np.ones(len(without))], axis=1)


def paired(a: np.ndarray, b: np.ndarray, samples: int = SAMPLES, seed: int = 0, linear: bool = False) -> Estimate:
    """Returns the ratio of `a` minus that of `b` over the same utterances, with its interval.

    a, b: counts (U, 2), or (R, U, 2) of R runs of a system (seeds). Every sample draws utterances, the same ones for
    both systems, and runs of each system, so the interval covers the choice of test utterances and of seeds. linear:
    the counts are `influences`.
    """
    a, b = (np.asarray(c, np.float64).reshape(-1, np.shape(c)[-2], 2) for c in (a, b))  # (R, U, 2)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"pairs need the same utterances: {a.shape[1]} and {b.shape[1]}")
    draws = _draws(a.shape[1], samples, seed)  # (N, U)
    generator = np.random.default_rng([seed, 1])
    difference, value = np.zeros(samples), 0.0
    for sign, counts in ((1, a), (-1, b)):
        runs, of_each = len(counts), _ratio(counts.sum(1))  # (R,)
        scores = _ratio(np.einsum("nu,ruc->nrc", draws, counts))  # (N, R)
        scores = _within(scores, of_each) if linear else scores
        chosen = generator.multinomial(runs, np.full(runs, 1 / runs), samples) / runs  # (N, R)
        difference += sign * (scores * chosen).sum(1)
        value += sign * float(of_each.mean())
    return _estimate(value, difference)


def _draws(utterances: int, samples: int, seed: int) -> np.ndarray:
    """Returns how often each sample draws each utterance: (N, U), rows sum to U."""
    generator = np.random.default_rng([seed, 0])
    return generator.multinomial(utterances, np.full(utterances, 1 / utterances), samples).astype(np.float64)


def _ratio(counts: np.ndarray) -> np.ndarray:
    """Divides counts (..., 2) to ratios (...), NaN where the second number is 0."""
    errors, length = counts[..., 0], counts[..., 1]
    return np.divide(errors, length, out=np.full(np.shape(length), np.nan), where=length > 0)


def _within(drawn: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Maps samples (N, ...) of linearised proportions with values (...) into [0, 1].

    The distance from the value v is divided by v (1 − v), the slope of the logistic function, and added on the logit
    scale, so that samples close to v do not change. If v is 0 or 1, samples are clipped.
    """
    inside = (value > 0) & (value < 1)
    v = np.where(inside, value, 0.5)
    logit = np.log(v / (1 - v)) + (drawn - v) / (v * (1 - v))
    return np.where(inside, 1 / (1 + np.exp(-np.clip(logit, -500, 500))), np.clip(drawn, 0, 1))


def _estimate(value: float, drawn: np.ndarray) -> Estimate:
    drawn = drawn[np.isfinite(drawn)]
    if np.isnan(value) or not len(drawn):
        return Estimate(np.nan, np.nan, np.nan)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(value), float(low), float(high))
