"""Labels of several stores, or by several anchors, as those of one."""

from collections.abc import Sequence

import numpy as np

from jepa_speech.batches.weighted_stores import Stores
from jepa_speech.errors import UsageError, UserError
from jepa_speech.path_lists import mixture
from jepa_speech.store.labels import UNKNOWN, Labels
from jepa_speech.store.store import Store


class JoinedLabels:
    """The labels of several stores by one anchor."""

    def __init__(self, labels: Sequence[Labels], stores: Stores) -> None:
        self._labels, self._stores = list(labels), stores
        self.top_k, self.components = labels[0].top_k, labels[0].components
        if other := next((part for part in labels if part.components != self.components), None):
            raise UserError(
                f"{other.path}: labels of {other.components} components, {labels[0].path} of {self.components}; "
                "remove those that the anchor does not have, and label again"
            )
        if other := next((part for part in labels if part.top_k != self.top_k), None):
            raise UsageError(
                f"{other.path}: labels of the {other.top_k} likeliest components, {labels[0].path} of {self.top_k}; "
                "label one of the stores again, with the other's --top-k"
            )

    def slice(self, i: int, first_frame: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
        """As `Labels.slice`, of recording i of them all."""
        part, number = self._stores.find(i)
        return self._labels[part].slice(number, first_frame, frames)


class EnsembleLabels:
    """The labels of one store, or one mixture of them, by several anchors: as `anchors/ensemble.py` joins them."""

    def __init__(self, labels: Sequence[Labels | JoinedLabels], weights: Sequence[float]) -> None:
        self._labels, self._weights = list(labels), list(weights)
        counts = [part.components for part in labels]
        self._first = [sum(counts[:m]) for m in range(len(counts))]  # each member's first component
        self.top_k, self.components = sum(part.top_k for part in labels), sum(counts)

    def slice(self, i: int, first_frame: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
        """As `Labels.slice`, the most likely of all members first: ids (n, Σ k) int32 and probs (n, Σ k) float32."""
        parts = [part.slice(i, first_frame, frames) for part in self._labels]
        shifted = [first + ids.astype(np.int32) for first, (ids, _) in zip(self._first, parts, strict=True)]
        shares = [np.float32(weight) * probs for weight, (_, probs) in zip(self._weights, parts, strict=True)]
        ids, probs = np.concatenate(shifted, axis=-1), np.concatenate(shares, axis=-1)
        order = np.argsort(-probs, axis=-1, kind="stable")
        return np.take_along_axis(ids, order, axis=-1), np.take_along_axis(probs, order, axis=-1)


def stored_labels(
    store: Store | Stores, anchor: str, files: Sequence[str] = ()
) -> Labels | JoinedLabels | EnsembleLabels:
    """By an anchor's fingerprint, or an ensemble's. Raises UserError where a store has no labels of an anchor.

    files: where the anchors are, for that message.
    """
    members = mixture(anchor, "inputs.anchor")
    named = files if len(files) == len(members) else [UNKNOWN] * len(members)
    found = [_of_one(store, fingerprint, file) for (fingerprint, _), file in zip(members, named, strict=True)]
    return found[0] if len(found) == 1 else EnsembleLabels(found, [weight for _, weight in members])


def _of_one(store: Store | Stores, fingerprint: str, file: str) -> Labels | JoinedLabels:
    if isinstance(store, Store):
        return Labels(store, fingerprint, file)
    return JoinedLabels([Labels(part, fingerprint, file) for part, _ in store.parts], store)
