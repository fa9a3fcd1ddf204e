"""Features of whole recordings in batches, for fitting anchors and for labelling."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import jax
import numpy as np

from jepa_speech.errors import UserError
from jepa_speech.features import grid, spectral
from jepa_speech.labelling import utterances
from jepa_speech.labelling.utterances import Piece, padded_batches
from jepa_speech.store.store import Store


@dataclass(frozen=True)
class FeatureBatch:
    """values (B, T, D) float32: row i has the features of piece i; further rows are padding."""

    pieces: list[Piece]
    values: jax.Array | np.ndarray

    def __iter__(self) -> Iterator[tuple[Piece, np.ndarray]]:
        """Yields every piece with its frames (n, D)."""
        values = np.asarray(self.values)
        return ((piece, values[row, piece.here]) for row, piece in enumerate(self.pieces))

    @property
    def records(self) -> np.ndarray:
        """The recording of each row (B,); 0 for padding rows."""
        records = np.zeros(len(self.values), np.int64)
        records[: len(self.pieces)] = [piece.record for piece in self.pieces]
        return records

    @property
    def valid(self) -> np.ndarray:
        """A mask (B, T) float32: 1 for frames of the row's piece. Each frame of a recording counts in one row."""
        valid = np.zeros(self.values.shape[:2], np.float32)
        for row, piece in enumerate(self.pieces):
            valid[row, piece.here] = 1
        return valid

    @property
    def seconds(self) -> float:
        return sum(piece.frames for piece in self.pieces) / grid.FRAME_RATE


class Extractor(Protocol):
    """A source of features. name: as in `Anchor.features` · key: the file of their means in a store · dim: D."""

    @property
    def name(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def dim(self) -> int: ...

    def __call__(self, store: Store, records: Iterable[int]) -> Iterator[FeatureBatch]:
        """Yields every frame of the recordings once, on the frame grid. Batches have few shapes and any order."""


class Spectral:
    """Features of a kind of `features/spectral.py`, of audio with RMS 1."""

    def __init__(self, kind: str):
        self.name = self.key = kind
        self.dim = spectral.DIMS[kind]

    def __call__(self, store: Store, records: Iterable[int]) -> Iterator[FeatureBatch]:
        for batch in padded_batches(store, records):
            yield FeatureBatch(batch.pieces, _spectral(self.name, batch.audio, batch.lengths))


@dataclass(frozen=True)
class WholeRecordings:
    """Features that depend on the whole recording, such as an encoder's layer: `of` maps a wave (S,) to (T, D)."""

    name: str
    key: str
    dim: int
    of: Callable[[np.ndarray], np.ndarray]

    def __call__(self, store: Store, records: Iterable[int]) -> Iterator[FeatureBatch]:
        """Yields one piece per batch. Raises UserError, naming the recording, if its frames are not on the grid."""
        for record in map(int, records):
            values, frames = self.of(store.read(record)), int(grid.frames(store.samples[record]))
            if values.shape != (frames, self.dim):
                raise UserError(
                    f"{self.name} of recording {record} of {store.name} is {values.shape}, not {(frames, self.dim)}: "
                    f"labels need features at {grid.FRAME_RATE:g} Hz"
                )
            for first in range(0, frames, utterances.BUCKETS[-1]):
                part = values[first : first + utterances.BUCKETS[-1]]
                bucket = next(size for size in utterances.BUCKETS if len(part) <= size)
                padded = np.pad(part, [(0, bucket - len(part)), (0, 0)])
                yield FeatureBatch([Piece(record, first, len(part), 0, 0)], padded[None])


@partial(jax.jit, static_argnums=0)
def _spectral(kind: str, audio: jax.Array, lengths: jax.Array) -> jax.Array:
    return spectral.extract(kind, audio, lengths)
