"""The recordings that are looked at: a list that depends on the seed alone, so that checkpoints can be compared."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.probe.dataset import Utterance, check_files, read_split, wave_of
from jepa_speech.probe.progress import along
from jepa_speech.probe.segments import Phones, Segment
from jepa_speech.store.store import Store

BAR_AFTER = 2.0  # seconds: for a few recordings, no bar appears


class Recording(NamedTuple):
    name: str
    wave: np.ndarray  # (S,) float32 at 16 kHz
    segments: list[Segment] | None = None  # phones, where they are known


def from_store(store: Store, count: int, seed: int, seconds: float) -> Iterable[Recording]:
    """`count` recordings drawn by the seed alone, each at most `seconds` long, read one at a time."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(store))[:count])
    for i in along(chosen, store.path.name, len(chosen), "recording", delay=BAR_AFTER):
        yield Recording(f"recording {i}", store.read(int(i), 0, int(seconds * SAMPLE_RATE)))


def from_manifest(
    folder: Path, split: str, count: int, seed: int, seconds: float, root: str | Path | None = None
) -> Iterable[Recording]:
    """The same from a split of labelled recordings, with their phones; raises UserError, at once, if there are none.

    root: see `ingest.manifest.entries`.
    """
    listed = read_split(folder, split, root=root)  # first, because its messages name what a wrong folder lacks
    chosen = np.sort(np.random.default_rng(seed).permutation(len(listed))[:count])
    utterances = Phones(folder, root).of(listed[i] for i in chosen)
    check_files(utterances)
    return (_read(one, seconds) for one in along(utterances, folder.name, len(chosen), "recording", delay=BAR_AFTER))


def _read(utterance: Utterance, seconds: float) -> Recording:
    return Recording(utterance.key, wave_of(utterance.entry)[: int(seconds * SAMPLE_RATE)], utterance.target)


@dataclass
class Listed:
    """Recordings that pass by, and afterwards their names: of those that were taken, and of those that were shorter
    than `shortest` samples, which not every checkpoint can take."""

    source: Iterable[Recording]
    shortest: int
    names: list[str] = field(default_factory=list)
    too_short: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Recording]:
        for recording in self.source:
            taken = len(recording.wave) >= self.shortest
            (self.names if taken else self.too_short).append(recording.name)
            if taken:
                yield recording
