"""One pass over the recordings: every task takes from a recording's features what it needs, the rest is let go.

Everything that can be probed is a function `extract(wave (S,), sample_rate) -> [(T, D), ...]`, one array per
layer, at 50 frames a second on the frame grid.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from jepa_speech.data import audio
from jepa_speech.errors import UserError
from jepa_speech.features.grid import FRAME_RATE, HOP, SAMPLE_RATE, WINDOW, frames
from jepa_speech.probe.dataset import SPLITS, Utterance

Extract = Callable[[np.ndarray, int], list[np.ndarray]]


def on_grid(layers: list[np.ndarray], frame_rate: float, samples: int) -> list[np.ndarray]:
    """Layers [(F, D)] of a system at another rate, on the frame grid of a wave of `samples`: for each frame, the one
    whose centre is nearest, so that every system is probed at the same moments.

    A system's frames are taken to lie in the middle of the wave.
    """
    if frame_rate == FRAME_RATE:
        return layers
    hop, count = SAMPLE_RATE / frame_rate, len(layers[0])
    first = (samples - (count - 1) * hop) / 2
    centres = np.arange(frames(samples)) * HOP + WINDOW / 2
    nearest = np.clip(np.round((centres - first) / hop).astype(int), 0, count - 1)
    return [layer[nearest] for layer in layers]


class Task(Protocol):
    """A module of this room: phones.py, speaker.py."""

    def read(self, folder: Path) -> dict[str, list[Utterance]]:
        """The utterances of each split."""

    def rows(self, utterance: Utterance, layers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """From the layers (L, T, D) of an utterance: inputs (N, L, D) and labels (N,)."""


@dataclass(frozen=True)
class Rows:
    """One split of one task, ready for a classifier. N rows, L layers, D width, C classes."""

    x: np.ndarray  # (N, L, D) float32
    y: np.ndarray  # (N,) index into classes
    owner: np.ndarray  # (N,) index into keys: the utterance a row comes from
    keys: tuple[str, ...]
    classes: tuple[str, ...]


def gather(
    tasks: Mapping[str, Task], folder: Path, extract: Extract, progress: bool = True
) -> dict[str, dict[str, Rows]]:
    """Extracts every recording once; returns task -> split -> Rows, standardised by the training split.

    Raises UserError for missing files and fields, empty splits, and labels that training never shows.
    """
    splits = {task: tasks[task].read(folder) for task in tasks}
    wanted: dict[Path, list[tuple[str, str, int]]] = {}
    for task, parts in splits.items():
        for split, utterances in parts.items():
            for index, utterance in enumerate(utterances):
                wanted.setdefault(utterance.path, []).append((task, split, index))
    taken: dict[tuple[str, str], dict[int, tuple[np.ndarray, np.ndarray]]] = {
        (task, split): {} for task in tasks for split in SPLITS
    }
    for path in tqdm(wanted, desc="features", unit="file", disable=not progress):
        layers = layers_of(path, extract)  # (L, T, D)
        for task, split, index in wanted[path]:
            taken[task, split][index] = tasks[task].rows(splits[task][split][index], layers)
    return {
        task: standardised(
            {split: joined(splits[task][split], taken.pop((task, split))) for split in SPLITS}, task, folder
        )
        for task in tasks
    }


def layers_of(path: Path, extract: Extract) -> np.ndarray:
    """The features of one file as one array (L, T, D); UserError naming the file if it has none."""
    try:
        wave = audio.load(path).astype(np.float32) / audio.FULL_SCALE
        layers = extract(wave, SAMPLE_RATE)
    except audio.Rejected as error:
        raise UserError(f"{path}: {error.detail}; mend it or leave it out of the manifests") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    widths = {layer.shape[1] for layer in layers}
    if len(widths) > 1:
        raise UserError(f"the layers have different widths, {sorted(widths)}: they cannot be weighed in one sum")
    return np.stack([np.asarray(layer, np.float32) for layer in layers])


def joined(
    utterances: list[Utterance], taken: dict[int, tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]:
    """All rows of a split: inputs (N, L, D), labels (N,), owners (N,), utterance keys."""
    order = range(len(utterances))
    owner = np.repeat(np.arange(len(utterances)), [len(taken[i][1]) for i in order])
    labels = np.concatenate([taken[i][1] for i in order])
    x = np.concatenate([taken[i][0] for i in order])
    return x, labels, owner, tuple(utterance.key for utterance in utterances)


def standardised(parts: dict, task: str, folder: Path) -> dict[str, Rows]:
    """Labels become numbers; every layer and dimension gets mean 0 and deviation 1 over the TRAINING rows."""
    classes = np.unique(parts["train"][1])
    for split, (_, labels, _, _) in parts.items():
        if not len(labels):
            raise UserError(f"{folder}: the {split} split has no labelled rows for the task {task}")
        unseen, counts = np.unique(labels[~np.isin(labels, classes)], return_counts=True)
        if len(unseen):
            named = ", ".join(f"{label} ({count} times)" for label, count in zip(unseen, counts, strict=True))
            raise UserError(f"{folder}: {task}: the {split} split has labels that train never shows: {named}")
    mean, deviation = moments(parts["train"][0])
    rows = {}
    for split, (x, labels, owner, keys) in parts.items():
        x -= mean
        x /= deviation
        rows[split] = Rows(x, np.searchsorted(classes, labels), owner, keys, tuple(map(str, classes)))
    return rows


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation (L, D) over the rows; a dimension that never moves is left as it is."""
    mean = x.mean(0, dtype=np.float64)
    square = sum(np.square(x[i : i + 4096] - mean).sum(0) for i in range(0, len(x), 4096))
    deviation = np.sqrt(square / len(x))
    deviation[deviation < 1e-6 * (1 + np.abs(mean))] = 1.0
    return mean.astype(np.float32), deviation.astype(np.float32)
