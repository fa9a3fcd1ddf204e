"""Extracts features in one pass over the recordings; every task keeps what it needs of each.

A system is a function `extract(wave (S,), sample_rate) -> [(T, D), ...]` that returns one array per layer, at 50 frames
per second on the frame grid.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jepa_speech.errors import UserError
from jepa_speech.features.grid import FRAME_RATE, HOP, SAMPLE_RATE, WINDOW, frames
from jepa_speech.ingest.inputs.entry import Entry
from jepa_speech.probing.at_once import in_order
from jepa_speech.probing.cache import Cache
from jepa_speech.probing.dataset import Utterance, check_files, wave_of, where_of
from jepa_speech.probing.inputs import OnDemand, Rows, Sequences
from jepa_speech.probing.progress import Bar, along

Extract = Callable[[np.ndarray, int], list[np.ndarray]]
MEMORY = 8 * 2**30  # most bytes of sequences in memory; further ones are computed whenever they are needed


def on_grid(layers: list[np.ndarray], frame_rate: float, samples: int) -> list[np.ndarray]:
    """Resamples layers [(F, D)] of another frame rate to the frame grid of a wave of `samples` samples.

    Each frame of the grid gets the frame with the nearest centre, so that all systems are probed at the same times. The
    system's frames are assumed to be centred in the wave.
    """
    if frame_rate == FRAME_RATE and len(layers[0]) == frames(samples):
        return layers
    hop, count = SAMPLE_RATE / frame_rate, len(layers[0])
    first = (samples - (count - 1) * hop) / 2
    centres = np.arange(frames(samples)) * HOP + WINDOW / 2
    nearest = np.clip(np.round((centres - first) / hop).astype(int), 0, count - 1)
    return [layer[nearest] for layer in layers]


class Kind(Protocol):
    """A kind of head, a module of this folder: classification.py, transcription.py, ..."""

    @property
    def FORM(self) -> type[Rows] | type[Sequences]: ...

    def evaluate(self, task: "Task", data: dict[str, Any], recipe: Any, seed: int, bar: Bar) -> dict[str, Any]:
        """Trains on train, chooses on valid, scores on test. data: split -> FORM. Results: see evaluate.py."""


class Task(Protocol):
    """A module of this folder: phones.py, pooled.py, ... It has one more function, which depends on KIND.FORM.

    Rows: rows(utterance, layers (L, T, D)) -> inputs (N, L, D) and labels (N,).
    Sequences: sequence(utterance, layers (L, T, D)) -> inputs (L, T', D).
    """

    @property
    def KIND(self) -> Kind: ...

    @property
    def RECIPE(self) -> Any:
        """A frozen dataclass with the training options of the head."""

    def read(self, folder: Path, root: str | Path | None = None) -> dict[str, list[Utterance]]:
        """Returns the utterances of each split. root: see `ingest.manifest.entries`."""


Listed = dict[str, list[Utterance]]  # split -> its utterances


def gather(
    tasks: Mapping[str, Task],
    folder: Path,
    extract: Extract,
    progress: bool = True,
    cache: Cache | None = None,
    splits: Mapping[str, Listed] | None = None,
    at_once: int = 1,
) -> dict[str, dict[str, Any]]:
    """Extracts every recording once; returns task -> split -> Rows or Sequences, standardised by the training split.

    splits: the tasks' utterances, if the caller has read them. at_once: recordings on which `extract` works at the same
    time, in threads. Sequences beyond MEMORY are read from the cache when they are needed, or extracted again. Raises
    UserError for missing files and fields, empty splits, and labels that are not in the training split.
    """
    splits = {task: splits[task] if splits else tasks[task].read(folder) for task in tasks}
    wanted: dict[bytes, list[tuple[str, str, int]]] = {}  # by recording, because several tasks may read the same
    for task, parts in splits.items():
        for split, utterances in parts.items():
            check_files(utterances)
            for index, utterance in enumerate(utterances):
                wanted.setdefault(utterance.entry.identity(), []).append((task, split, index))
    taken: dict[str, dict[str, list[Any]]] = {
        task: {split: [None] * len(splits[task][split]) for split in splits[task]} for task in tasks
    }
    free = MEMORY

    def layers_for(readers: list[tuple[str, str, int]]) -> np.ndarray:
        task, split, index = readers[0]
        return layers_of(splits[task][split][index].entry, extract, cache)  # (L, T, D)

    every = list(wanted.values())
    computed = along(in_order(layers_for, every, at_once), "features", len(every), "file", progress)
    for readers, layers in zip(every, computed, strict=True):
        for task, split, index in readers:
            form, utterance = tasks[task].KIND.FORM, splits[task][split][index]
            part: Any = form.take(tasks[task], utterance, layers)
            if form is Sequences:
                if part.nbytes > free:
                    part = OnDemand(partial(again, tasks[task], utterance, extract, cache), part.shape)
                else:
                    free -= part.nbytes
            taken[task][split][index] = part
    return {task: tasks[task].KIND.FORM.gathered(splits[task], taken.pop(task), f"{folder}: {task}") for task in tasks}


def again(task: Any, utterance: Utterance, extract: Extract, cache: Cache | None) -> np.ndarray:
    return task.sequence(utterance, layers_of(utterance.entry, extract, cache))


def layers_of(entry: Entry, extract: Extract, cache: Cache | None = None) -> np.ndarray:
    """Returns the features (L, T, D) of one recording. Raises UserError, naming it, if it cannot be used."""
    if cache:
        return cache.layers(entry, lambda: layers_of(entry, extract))
    wave = wave_of(entry)
    try:
        layers = extract(wave, SAMPLE_RATE)
    except UserError as error:
        raise UserError(f"{where_of(entry)}: {entry.path}: {error}") from error
    widths = {layer.shape[1] for layer in layers}
    if len(widths) > 1:
        raise UserError(f"the layers have different widths, {sorted(widths)}; a weighted sum needs equal widths")
    return np.stack([np.asarray(layer, np.float32) for layer in layers])
