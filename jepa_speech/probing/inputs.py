"""Inputs of heads: rows for classifiers, or whole sequences. Both are standardised by the training split."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

import numpy as np

from jepa_speech.errors import UserError
from jepa_speech.probing.dataset import Utterance

Moments = tuple[np.ndarray, np.ndarray]  # mean and deviation, (L, D) each


@dataclass(frozen=True)
class Rows:
    """One split of one task, ready for a classifier. N rows, L layers, D width, C classes, U utterances."""

    x: np.ndarray  # (N, L, D) float32
    y: np.ndarray  # (N,) index into classes
    owner: np.ndarray  # (N,) index into keys: the utterance a row comes from
    keys: tuple[str, ...]  # (U,)
    classes: tuple[str, ...]
    speakers: tuple[str, ...] = ()  # (U,), '' if a manifest does not name one

    @staticmethod
    def take(task: Any, utterance: Utterance, layers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns inputs (N, L, D) and labels (N,) of an utterance with layers (L, T, D)."""
        return task.rows(utterance, layers)

    @classmethod
    def gathered(
        cls, utterances: dict[str, list[Utterance]], taken: dict[str, list[tuple[np.ndarray, np.ndarray]]], where: str
    ) -> dict[str, Self]:
        """Joins the rows of every split. Raises UserError for empty splits, and for labels that are not in train."""
        labels = {split: np.concatenate([y for _, y in parts]) for split, parts in taken.items()}
        classes = np.unique(labels["train"])
        for split, found in labels.items():
            check_labels(found, classes, where, split)
        rows = {}
        for split, parts in taken.items():
            owner = np.repeat(np.arange(len(parts)), [len(y) for _, y in parts])
            keys, speakers = names(utterances[split])
            x, y = np.concatenate([x for x, _ in parts]), np.searchsorted(classes, labels[split])
            rows[split] = cls(x, y, owner, keys, tuple(map(str, classes)), speakers)
        return standardised(rows)


Part = TypeVar("Part", bound=Rows)


def standardised(parts: dict[str, Part]) -> dict[str, Part]:
    """Standardises every layer and dimension in place: mean 0 and deviation 1 over the TRAINING split."""
    x = parts["train"].x
    mean, deviation = moments(lambda: (x[i : i + 4096].swapaxes(0, 1) for i in range(0, len(x), 4096)))
    for rows in parts.values():
        np.subtract(rows.x, mean, out=rows.x)
        np.divide(rows.x, deviation, out=rows.x)
    return parts


def joined(parts: Sequence[Rows]) -> Rows:
    """Joins the rows of several splits."""
    first = np.cumsum([0, *(len(rows.keys) for rows in parts)])
    return replace(
        parts[0],
        x=np.concatenate([rows.x for rows in parts]),
        y=np.concatenate([rows.y for rows in parts]),
        owner=np.concatenate([rows.owner + start for rows, start in zip(parts, first, strict=False)]),
        keys=tuple(key for rows in parts for key in rows.keys),
        speakers=tuple(speaker for rows in parts for speaker in rows.speakers),
    )


def selected(rows: Rows, utterances: np.ndarray) -> Rows:
    """Copies the rows of some utterances, given by ascending indices (V,) into keys."""
    chosen = np.isin(rows.owner, utterances)
    return replace(
        rows,
        x=rows.x[chosen],
        y=rows.y[chosen],
        owner=np.searchsorted(utterances, rows.owner[chosen]),
        keys=tuple(rows.keys[i] for i in utterances),
        speakers=tuple(rows.speakers[i] for i in utterances),
    )


class OnDemand:
    """An array (L, T, D) that is not kept in memory: its values are loaded whenever they are used."""

    def __init__(self, load: Callable[[], np.ndarray], shape: tuple[int, ...]) -> None:
        self.load, self.shape = load, shape

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.load(), dtype)

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.asarray(self)[index]


@dataclass(frozen=True)
class Sequences:
    """One split of one task as whole utterances, in the order of the manifest. U utterances."""

    features: Sequence[np.ndarray | OnDemand]  # U arrays (L, T, D) float32
    targets: tuple[Any, ...]  # (U,) `target` of each utterance
    keys: tuple[str, ...]  # (U,)
    speakers: tuple[str, ...] = ()  # (U,), '' if a manifest does not name one

    @staticmethod
    def take(task: Any, utterance: Utterance, layers: np.ndarray) -> np.ndarray:
        """Returns the sequence (L, T', D) of an utterance with layers (L, T, D)."""
        return task.sequence(utterance, layers)

    @classmethod
    def gathered(
        cls, utterances: dict[str, list[Utterance]], taken: dict[str, list[np.ndarray | OnDemand]], where: str
    ) -> dict[str, Self]:
        """Standardises every split over all frames of the training split; not at all if there is no training split."""
        if "train" in taken:
            both = moments(lambda: taken["train"])
            for parts in taken.values():
                for number, layers in enumerate(parts):
                    parts[number] = by_moments(layers, both)
        sequences = {}
        for split, parts in taken.items():
            targets = tuple(utterance.target for utterance in utterances[split])
            keys, speakers = names(utterances[split])
            sequences[split] = cls(parts, targets, keys, speakers)
        return sequences


def names(utterances: list[Utterance]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns keys and speakers."""
    return tuple(u.key for u in utterances), tuple(u.speaker for u in utterances)


def check_labels(labels: np.ndarray, classes: np.ndarray, where: str, split: str) -> None:
    """Raises UserError if there are no labels, or if one is not among the training split's `classes`."""
    if not len(labels):
        raise UserError(f"{where}: the {split} split has no labelled rows")
    unseen, counts = np.unique(labels[~np.isin(labels, classes)], return_counts=True)
    if len(unseen):
        named = ", ".join(f"{label} ({count} times)" for label, count in zip(unseen, counts, strict=True))
        raise UserError(f"{where}: the {split} split has labels that are not in the train split: {named}")


def by_moments(layers: np.ndarray | OnDemand, moments: Moments) -> np.ndarray | OnDemand:
    """Standardises layers (L, T, D); layers that are loaded on demand are standardised when they are loaded."""
    if isinstance(layers, OnDemand):
        return OnDemand(lambda: np.asarray(by_moments(layers.load(), moments)), layers.shape)
    mean, deviation = moments
    return (layers - mean[:, None]) / deviation[:, None]


def moments(blocks: Callable[[], Iterable[np.ndarray | OnDemand]]) -> Moments:
    """Returns mean and deviation (L, D) over all frames of blocks (L, T, D), in two passes.

    The deviation of a constant dimension is 1.
    """
    count = sum(block.shape[1] for block in blocks())
    mean = sum(np.asarray(block).sum(1, dtype=np.float64) for block in blocks()) / count
    square = sum(np.square(np.asarray(block) - mean[:, None]).sum(1) for block in blocks())
    deviation = np.sqrt(square / count)
    deviation[deviation < 1e-6 * (1 + np.abs(mean))] = 1.0
    return mean.astype(np.float32), deviation.astype(np.float32)
