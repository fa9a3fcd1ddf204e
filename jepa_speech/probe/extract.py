"""One pass over the recordings: every task takes from a recording's features what it needs, the rest is let go.

Everything that can be probed is a function `extract(wave (S,), sample_rate) -> [(T, D), ...]`, one array per
layer, at 50 frames a second on the frame grid.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from jepa_speech.data import audio
from jepa_speech.errors import UserError
from jepa_speech.features.grid import FRAME_RATE, HOP, SAMPLE_RATE, WINDOW, frames
from jepa_speech.probe.dataset import Utterance
from jepa_speech.probe.inputs import Rows, Sequences

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


class Kind(Protocol):
    """A kind of head, a module of this room: classification.py, transcription.py, ..."""

    FORM: type[Rows] | type[Sequences]

    def evaluate(self, task: "Task", data: dict[str, Any], recipe: Any, seed: int) -> dict[str, Any]:
        """Trains on train, chooses on valid, scores on test. data: split -> FORM. Results: see evaluate.py."""


class Task(Protocol):
    """A module of this room: phones.py, pooled.py, ..."""

    KIND: Kind
    RECIPE: Any  # a frozen dataclass: how the head is trained, what is tried

    def read(self, folder: Path) -> dict[str, list[Utterance]]:
        """The utterances of each split."""

    def rows(self, utterance: Utterance, layers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where KIND.FORM is Rows. From the layers (L, T, D) of an utterance: inputs (N, L, D) and labels (N,)."""

    def sequence(self, utterance: Utterance, layers: np.ndarray) -> np.ndarray:
        """Where KIND.FORM is Sequences. From the layers (L, T, D) of an utterance: what is kept of them (L, T', D)."""


def gather(
    tasks: Mapping[str, Task], folder: Path, extract: Extract, progress: bool = True
) -> dict[str, dict[str, Any]]:
    """Extracts every recording once; returns task -> split -> Rows or Sequences, standardised by the training split.

    Raises UserError for missing files and fields, empty splits, and labels that training never shows.
    """
    splits = {task: tasks[task].read(folder) for task in tasks}
    wanted: dict[Path, list[tuple[str, str, int]]] = {}
    for task, parts in splits.items():
        for split, utterances in parts.items():
            for index, utterance in enumerate(utterances):
                wanted.setdefault(utterance.path, []).append((task, split, index))
    taken = {task: {split: [None] * len(splits[task][split]) for split in splits[task]} for task in tasks}
    for path in tqdm(wanted, desc="features", unit="file", disable=not progress):
        layers = layers_of(path, extract)  # (L, T, D)
        for task, split, index in wanted[path]:
            form = tasks[task].KIND.FORM
            taken[task][split][index] = form.take(tasks[task], splits[task][split][index], layers)
    return {task: tasks[task].KIND.FORM.gathered(splits[task], taken.pop(task), f"{folder}: {task}") for task in tasks}


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
