"""How sure a cluster head is where frames were hidden from it, and where they were not, beside its targets."""

from typing import Any

import numpy as np

BINS = 60
WHERE = ("hidden", "visible")


class Hesitation:
    """Sums over frames of posterior entropies H, in nats, and of KL(targets ‖ model), for frames of both kinds.

    `share`: of frames that were hidden. `histograms`: (labelling, kind) -> how many frames have an entropy in each of
    BINS equal steps from 0 to ln K (BINS,).
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

    def add(self, hidden: np.ndarray, p: np.ndarray, q: np.ndarray | None) -> None:
        """hidden (T,) bool; p (T, K) the head's answers from that view; q (T, K) the targets', if they are known."""
        divergence = None if q is None else (q * (_log(q) - _log(p))).sum(1)  # (T,)
        for where, chosen in zip(WHERE, (hidden, ~hidden), strict=True):
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
        """Means over frames, of "model", "targets" and "random", which is a guess among all K alike."""
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
    """In nats: (T, K) -> (T,)."""
    return -(p * _log(p)).sum(1)


def _log(p: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(p, 1e-30))
