"""Entropy of a cluster head's posteriors at masked and at visible frames, and their divergence from the targets."""

from typing import Any

import numpy as np

BINS = 60
WHERE = ("hidden", "visible")  # masked frames are called hidden in the keys of results files


class Hesitation:
    """Sums of posterior entropies H and of KL(targets ‖ model), in nats, over masked and over visible frames.

    share: of masked frames. histograms: (labelling, kind) -> number of frames (BINS,) with an entropy in each of BINS
    equal steps from 0 to ln K.
    """

    def __init__(self, clusters: int):
        self.highest = float(np.log(clusters))
        self.frames = dict.fromkeys(WHERE, 0)
        self.histograms: dict[tuple[str, str], np.ndarray] = {}
        self._entropy: dict[tuple[str, str], float] = {}
        self._divergence = dict.fromkeys(WHERE, 0.0)

    @property
    def share(self) -> float:
        return self.frames["hidden"] / max(1, sum(self.frames.values()))

    def add(self, mask: np.ndarray, p: np.ndarray, q: np.ndarray | None) -> None:
        """Adds a recording. mask (T,): True is masked; p (T, K): the head's posteriors; q (T, K): targets, if known."""
        divergence = None if q is None else (q * (_log(q) - _log(p))).sum(1)  # (T,)
        for where, chosen in zip(WHERE, (mask, ~mask), strict=True):
            self.frames[where] += int(chosen.sum())
            for name, values in (("model", p), ("targets", q)):
                if values is not None:
                    h = entropy(values[chosen])
                    counts, _ = np.histogram(np.clip(h, 0, self.highest), BINS, (0, self.highest))
                    self.histograms[name, where] = self.histograms.get((name, where), 0) + counts
                    self._entropy[name, where] = self._entropy.get((name, where), 0.0) + float(h.sum())
            if divergence is not None:
                self._divergence[where] += float(divergence[chosen].sum())

    def figures(self) -> dict[str, dict[str, Any]]:
        """Returns means over frames for "model", "targets" and "random" (a uniform distribution)."""
        known = [where for where in WHERE if self.frames[where]]
        found: dict[str, dict[str, Any]] = {"random": {f"entropy_{where}": self.highest for where in known}}
        for (name, where), total in self._entropy.items():
            if self.frames[where]:
                found.setdefault(name, {})[f"entropy_{where}"] = total / self.frames[where]
        if "targets" in found:
            for where in known:
                found["model"][f"kl_{where}"] = self._divergence[where] / self.frames[where]
                found["targets"][f"kl_{where}"] = 0.0
                found["random"][f"kl_{where}"] = self.highest - found["targets"][f"entropy_{where}"]
        return found


def entropy(p: np.ndarray) -> np.ndarray:
    """Returns the entropy in nats: (T, K) -> (T,)."""
    return -(p * _log(p)).sum(1)


def _log(p: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(p, 1e-30))
