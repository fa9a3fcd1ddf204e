"""The recordings of an analysis. They depend on the seed alone, so that checkpoints can be compared."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.probing.dataset import Utterance, check_files, read_split, wave_of
from jepa_speech.probing.progress import along
from jepa_speech.probing.segments import Phones, Segment
from jepa_speech.store.store import Store

BAR_AFTER = 2.0  # seconds: for a few recordings, no bar appears


class Recording(NamedTuple):
    name: str
    wave: np.ndarray  # (S,) float32 at 16 kHz
    segments: list[Segment] | None = None  # phones, if they are known


def from_store(store: Store, count: int, seed: int, seconds: float, progress: bool = True) -> Iterable[Recording]:
    """Yields `count` recordings drawn by the seed, each cut to `seconds`."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(store))[:count])
    for i in along(chosen, Path(store.name).name, len(chosen), "recording", progress, BAR_AFTER):
        yield Recording(f"recording {i}", store.read(int(i), 0, int(seconds * SAMPLE_RATE)))


def from_manifest(
    folder: Path,
    split: str,
    count: int,
    seed: int,
    seconds: float,
    root: str | Path | None = None,
    progress: bool = True,
) -> Iterable[Recording]:
    """Returns `count` recordings of a split of labelled recordings, with their phones, each cut to `seconds`.

    root: see `ingest.manifest.entries`. Raises UserError at once if the split or phones are missing.
    """
    listed = read_split(folder, split, root=root)  # first, because its error is clearer for a wrong folder
    chosen = np.sort(np.random.default_rng(seed).permutation(len(listed))[:count])
    utterances = Phones(folder, root).of(listed[i] for i in chosen)
    check_files(utterances)
    bar = along(utterances, folder.name, len(chosen), "recording", progress, BAR_AFTER)
    return (_read(one, seconds) for one in bar)


def _read(utterance: Utterance, seconds: float) -> Recording:
    return Recording(utterance.key, wave_of(utterance.entry)[: int(seconds * SAMPLE_RATE)], utterance.target)


@dataclass
class Listed:
    """An iterable of the recordings of at least `shortest` samples, the least that all checkpoints accept.

    Afterwards, `names` has the names of these recordings, `too_short` of the others.
    """

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
