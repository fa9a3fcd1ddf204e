"""95% intervals from resampled utterances (Efron's percentile bootstrap).

Utterances are resampled, not frames, because frames of one utterance are correlated. Counts are
(U, 2), per utterance: right and all, or errors and length of the reference. A figure is the ratio of their sums.

An utterance with an empty reference has no rate of its own, but its errors (insertions) count in the sum, as in jiwer.
A draw without any reference has no rate and is left out. A set without any has no figure (NaN, shown as n/a).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

SAMPLES = 2000
LEVEL = 0.95


class Estimate(NamedTuple):
    """A figure and its interval; NaN where there is no reference to count errors against."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "n/a"
        return f"{100 * self.value:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"

    def as_json(self) -> dict[str, float | None]:
        """Returns None for NaN, which JSON does not have."""
        return {name: None if np.isnan(x) else x for name, x in self._asdict().items()}


def estimate_of(figure: Mapping[str, Any]) -> Estimate:
    """The estimate that `as_json` wrote into a figure."""
    return Estimate(*(np.nan if figure[name] is None else figure[name] for name in Estimate._fields))


def ratio(counts: np.ndarray, samples: int = SAMPLES, seed: int = 0, linear: bool = False) -> Estimate:
    """The ratio of the sums over the utterances, with its interval. counts (U, 2); linear: they are `influences`."""
    counts = np.asarray(counts, np.float64)
    value, drawn = _ratio(counts.sum(0)), _ratio(_draws(len(counts), samples, seed) @ counts)
    return _estimate(float(value), _within(drawn, value) if linear else drawn)


def figure(keys: Sequence[str], counts: np.ndarray, linear: bool = False) -> dict[str, Any]:
    """A figure of the results, as JSON: its estimate, and the counts (U, 2) of the utterances `keys` (U,).

    None stands for an estimate that is NaN. linear: the counts are `influences`, which the results then say.
    """
    counts = np.asarray(counts)
    estimate = ratio(counts, linear=linear).as_json()
    return estimate | {"counts": dict(zip(keys, counts.tolist(), strict=True))} | ({"linear": True} if linear else {})


def influences(value: float, without: np.ndarray) -> np.ndarray:
    """Counts (U, 2) of a figure that is no ratio of sums, from `without` (U,), its values without each utterance.

    θ + (U − 1)(mean of θ₋ᵤ − θ₋ᵤ), 1: their ratio is θ, and their spread the jackknife's estimate of its error.
    Their sums can leave [0, 1], the range of such figures; `linear=True` keeps intervals inside.
    """
    without = np.asarray(without, np.float64)
    return np.stack([value + (len(without) - 1) * (without.mean() - without), np.ones(len(without))], axis=1)


def paired(a: np.ndarray, b: np.ndarray, samples: int = SAMPLES, seed: int = 0, linear: bool = False) -> Estimate:
    """The ratio of `a` minus that of `b` over the same utterances, with its interval.

    a, b: counts (U, 2), or (R, U, 2) of R runs of a system (seeds). Every sample draws the utterances anew, the
    same ones for both systems, and, where a system has several runs, its runs anew: the interval covers both the
    choice of test utterances and of seeds. linear: the counts are `influences`.
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
    """How often each sample draws each utterance: (N, U), every row sums to U."""
    generator = np.random.default_rng([seed, 0])
    return generator.multinomial(utterances, np.full(utterances, 1 / utterances), samples).astype(np.float64)


def _ratio(counts: np.ndarray) -> np.ndarray:
    """(..., 2) -> (...), NaN where the second number is 0."""
    errors, length = counts[..., 0], counts[..., 1]
    return np.divide(errors, length, out=np.full(np.shape(length), np.nan), where=length > 0)


def _within(drawn: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Draws (N, ...) of linearised proportions, of the values (...), kept within [0, 1].

    The distance from the value v is moved to the logit scale, divided by the slope v (1 − v), so that close to the
    value nothing changes. A value of 0 or 1 has no logit; its draws are clipped.
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
