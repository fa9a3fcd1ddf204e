"""Labels of several stores, or of several anchors, read like those of one."""

from collections.abc import Sequence

import numpy as np

from jepa_speech.batches.weighted_stores import Stores
from jepa_speech.errors import UsageError, UserError
from jepa_speech.path_lists import mixture
from jepa_speech.store.labels import UNKNOWN, Labels
from jepa_speech.store.store import Store


class JoinedLabels:
    """An anchor's labels of several stores."""

    def __init__(self, labels: Sequence[Labels], stores: Stores) -> None:
        self._labels, self._stores = list(labels), stores
        self.top_k, self.components = labels[0].top_k, labels[0].components
        if other := next((part for part in labels if part.components != self.components), None):
            raise UserError(
                f"{other.path}: labels of {other.components} components, but {labels[0].path} has {self.components}; "
                "remove the wrong ones, and label again"
            )
        if other := next((part for part in labels if part.top_k != self.top_k), None):
            raise UsageError(
                f"{other.path}: labels with --top-k {other.top_k}, but {labels[0].path} has {self.top_k}; "
                "label one of the stores again, with the other's --top-k"
            )

    def slice(self, i: int, first_frame: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
        """Like `Labels.slice`; recordings are numbered over all stores."""
        part, number = self._stores.find(i)
        return self._labels[part].slice(number, first_frame, frames)


class EnsembleLabels:
    """Several anchors' labels of a store or of several stores, joined as in `anchors/ensemble.py`."""

    def __init__(self, labels: Sequence[Labels | JoinedLabels], weights: Sequence[float]) -> None:
        self._labels, self._weights = list(labels), list(weights)
        counts = [part.components for part in labels]
        self._first = [sum(counts[:m]) for m in range(len(counts))]  # each member's first component
        self.top_k, self.components = sum(part.top_k for part in labels), sum(counts)

    def slice(self, i: int, first_frame: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
        """Like `Labels.slice`: ids (n, Σ k) int32, probs (n, Σ k) float32, by falling weighted probability."""
        parts = [part.slice(i, first_frame, frames) for part in self._labels]
        shifted = [first + ids.astype(np.int32) for first, (ids, _) in zip(self._first, parts, strict=True)]
        shares = [np.float32(weight) * probs for weight, (_, probs) in zip(self._weights, parts, strict=True)]
        ids, probs = np.concatenate(shifted, axis=-1), np.concatenate(shares, axis=-1)
        order = np.argsort(-probs, axis=-1, kind="stable")
        return np.take_along_axis(ids, order, axis=-1), np.take_along_axis(probs, order, axis=-1)


def stored_labels(
    store: Store | Stores, anchor: str, files: Sequence[str] = ()
) -> Labels | JoinedLabels | EnsembleLabels:
    """Returns the labels of an anchor or ensemble, given its fingerprint.

    files: the anchors' paths, for messages. Raises UserError if a store has no labels of an anchor.
    """
    members = mixture(anchor, "inputs.anchor")
    named = files if len(files) == len(members) else [UNKNOWN] * len(members)
    found = [_of_one(store, fingerprint, file) for (fingerprint, _), file in zip(members, named, strict=True)]
    return found[0] if len(found) == 1 else EnsembleLabels(found, [weight for _, weight in members])


def _of_one(store: Store | Stores, fingerprint: str, file: str) -> Labels | JoinedLabels:
    if isinstance(store, Store):
        return Labels(store, fingerprint, file)
    return JoinedLabels([Labels(part, fingerprint, file) for part, _ in store.parts], store)
