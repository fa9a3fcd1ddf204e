"""Linear CKA, a similarity of two sets of features that does not depend on their axes, streamed over recordings.

    CKA(X, Y) = ‖Yᵀ X‖_F² / (‖Xᵀ X‖_F ‖Yᵀ Y‖_F),    X (N, D), Y (N, E) less their means over the same N frames

(Kornblith et al. 2019, arXiv 1905.00414, section 3). CKA is 1 for features that differ by a rotation and a scale; other
linear maps change it. For independent features it is about √(D E) / N, not 0, so N must be well above the widths.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from jepa_speech.errors import UserError

MEMORY = 2 * 2**30  # most bytes of sums; if they need more, only some of the layers are compared

Pair = tuple[str, str]


class LinearCka:
    """Linear CKA of every layer of one system with every layer of another, for the named pairs.

    Keeps float64 sums of cross-products, not frames. To avoid loss of precision, the mean of the first recording is
    subtracted from x, and the rest of the mean at the end.

    layers: system -> the compared layers, known after the first `add`: all, or every second, third, ... from the last
    one, so that the sums fit into `memory` bytes.
    """

    def __init__(self, pairs: Iterable[Pair], memory: float = MEMORY):
        pairs = list(pairs)
        alone = [(name, name) for pair in pairs for name in pair]  # the denominators
        self.pairs: list[Pair] = list(dict.fromkeys([*pairs, *alone]))
        self.memory = memory
        self.frames = 0
        self.layers: dict[str, list[int]] = {}

    def add(self, features: Mapping[str, Sequence[np.ndarray]]) -> None:
        """Adds the layers [(N, D), ...] of each system for the same N frames. Widths may differ between layers.

        Raises UserError if the numbers of frames differ between systems.
        """
        if not self.layers:
            self._begin(features)
        x = {name: np.concatenate([features[name][i] for i in chosen], 1) for name, chosen in self.layers.items()}
        if len(counts := {len(values) for values in x.values()}) > 1:
            raise UserError(f"CKA needs the same frames of all systems, but their numbers are {sorted(counts)}")
        x = {name: np.asarray(values, np.float64) - self._guess[name] for name, values in x.items()}
        self.frames += counts.pop()
        for name, values in x.items():
            self._sums[name] += values.sum(0)
        for a, b in self.pairs:
            self._products[a, b] += x[a].T @ x[b]

    def between(self, a: str, b: str) -> np.ndarray:
        """Returns the CKA of all layers, (layers of a, layers of b); NaN for a constant layer."""
        alone_a, alone_b = (np.sqrt(np.diagonal(self._squares(name, name))) for name in (a, b))
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._squares(a, b) / np.outer(alone_a, alone_b)

    def _begin(self, features: Mapping[str, Sequence[np.ndarray]]) -> None:
        names = dict.fromkeys(name for pair in self.pairs for name in pair)
        every = 1
        while True:
            chosen = {name: list(range(len(features[name])))[::-every][::-1] for name in names}
            widths = {name: [features[name][i].shape[1] for i in chosen[name]] for name in names}
            total = {name: sum(values) for name, values in widths.items()}
            needed = 8 * sum(total[a] * total[b] for a, b in self.pairs)
            if needed <= self.memory or all(len(layers) == 1 for layers in chosen.values()):
                break
            every += 1
        self.layers = chosen
        self._starts = {name: np.cumsum([0, *values[:-1]]) for name, values in widths.items()}
        self._guess = {name: np.concatenate([np.mean(features[name][i], 0) for i in chosen[name]]) for name in names}
        self._sums = {name: np.zeros(total[name]) for name in names}
        self._products = {(a, b): np.zeros((total[a], total[b])) for a, b in self.pairs}

    def _squares(self, a: str, b: str) -> np.ndarray:
        """Returns ‖Yᵀ X‖_F² of every layer X of a with every layer Y of b."""
        centred = self._products[a, b] - np.outer(self._sums[a], self._sums[b]) / self.frames
        blocks = np.add.reduceat(np.square(centred), self._starts[a], 0)
        return np.add.reduceat(blocks, self._starts[b], 1)
