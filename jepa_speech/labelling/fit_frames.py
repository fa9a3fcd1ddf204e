"""The frames of a store to which an anchor is fitted, and the held-out ones."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from jepa_speech.anchors.frames import Chunks, shift_and_scale, whitening
from jepa_speech.features import grid
from jepa_speech.labelling.anchoring import Advance, feature_means, silent
from jepa_speech.labelling.extractors import Extractor
from jepa_speech.labelling.utterances import Piece
from jepa_speech.store.store import Store

HELD_OUT = 20  # one recording of this many is held out
IN_MEMORY_BYTES = 2 << 30  # if the frames need more than this, each pass computes them again
CHUNK_BYTES = 100 << 20  # size of a chunk of frames
HELD_OUT_FRAMES = 100_000  # least number of held-out frames, if the store has as many
SAMPLED_FROM = 10  # a sample is drawn from this many times its size, so that it covers many recordings
WHITENED_FROM = 500_000  # frames from which a whitening is computed
_HELD_OUT_SALT = 1 << 32  # larger than any --seed


def fitting_records(store: Store, hours: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the recordings to fit on and those to hold out, drawn by the seed from up to `hours` of the store.

    Whether a recording is held out depends on its id alone. A single recording is both fitted and held out.
    """
    counts = _frame_counts(store)
    order = np.argsort(_hash(np.arange(len(store)), seed), kind="stable")
    fits = np.cumsum(counts[order]) <= hours * 3600 * grid.FRAME_RATE
    fits[0] = True
    chosen = np.sort(order[fits])
    held = _hash(chosen, _HELD_OUT_SALT) % HELD_OUT == 0
    if held.all() or not held.any():
        held = np.arange(len(chosen)) == len(chosen) - 1
    return chosen[~held], chosen[held]


@dataclass(frozen=True)
class Passes:
    """Standardised frames for any number of passes, in memory or computed again in each pass.

    shift, scale (D,) float32, rotation (D, D) float32 or None: how frames are standardised
    sample (n, D): drawn from the frames to fit on · heldout (n, D): frames of held-out recordings
    frames: number in a pass · recordings: number, with the held-out ones
    chunks: called with a progress callback, returns the chunks (n, D) of a pass: whole recordings in an order drawn by
    the seed.
    """

    shift: np.ndarray
    scale: np.ndarray
    rotation: np.ndarray | None
    sample: np.ndarray
    heldout: np.ndarray
    frames: int
    recordings: int
    chunks: Callable[[Advance], Chunks]


def fitting_passes(
    store: Store,
    features: Extractor,
    normalize: str,
    hours: float,
    seed: int,
    sample: int,
    standardize: bool = False,
    advance: Advance = silent,
) -> Passes:
    """Returns the frames of `fitting_records`, and a sample of `sample` frames, in bounded memory (IN_MEMORY_BYTES).

    The mean is subtracted; `standardize` also divides each feature by its standard deviation; "pca" features are
    whitened. `advance` reports the audio read before the first pass.
    """
    train, heldout = fitting_records(store, hours, seed)
    counts, random = _frame_counts(store), np.random.default_rng(seed)
    recordings, alone = len(train) + len(heldout), not len(train)
    train, heldout = random.permutation(heldout if alone else train), random.permutation(heldout)
    groups = _groups(train, counts, CHUNK_BYTES // (4 * features.dim))
    edges = np.concatenate([[0], np.cumsum([counts[group].sum() for group in groups])])
    frames = int(edges[-1])
    if (frames + counts[heldout].sum()) * features.dim * 4 <= IN_MEMORY_BYTES:
        x = _gather(store, features, normalize, train if alone else np.concatenate([train, heldout]), advance)
        standard = Standard.of(x[:frames], standardize, features.name == "pca")
        standard.apply(x)
        drawn = x[np.sort(random.choice(frames, min(sample, frames), replace=False))]

        def held(number: int, advance: Advance) -> np.ndarray:
            chunk = x[edges[number] : edges[number + 1]]
            advance(len(chunk) / grid.FRAME_RATE)
            return chunk

        chunks = partial(_Chunks, held, len(groups))
        return Passes(*standard, drawn, x if alone else x[frames:], frames, recordings, chunks)

    some = train[: 1 + np.searchsorted(np.cumsum(counts[train]), SAMPLED_FROM * sample)]
    share = sample / counts[some].sum()
    parts = [x[random.random(len(x)) < share] for _, x in _stream(store, features, normalize, some, advance)]
    drawn = np.concatenate(parts)
    standard = Standard.of(drawn, standardize, features.name == "pca")
    watched = heldout[: 1 + np.searchsorted(np.cumsum(counts[heldout]), HELD_OUT_FRAMES)]
    watched = _gather(store, features, normalize, watched, advance)

    def anew(number: int, advance: Advance) -> np.ndarray:
        return standard.apply(_gather(store, features, normalize, groups[number], advance))

    drawn, watched = standard.apply(drawn), standard.apply(watched)
    return Passes(*standard, drawn, watched, frames, recordings, partial(_Chunks, anew, len(groups)))


def heldout_frames(store: Store, features: Extractor, normalize: str, hours: float, seed: int) -> np.ndarray:
    """Returns about 100,000 unstandardised frames (n, D) that `fitting_passes` holds out, for these or fewer hours."""
    _, heldout = fitting_records(store, hours, seed)
    heldout = np.random.default_rng(seed).permutation(heldout)
    some = heldout[: 1 + np.searchsorted(np.cumsum(_frame_counts(store)[heldout]), HELD_OUT_FRAMES)]
    return _gather(store, features, normalize, some, silent)


class Standard(NamedTuple):
    """The standardisation of features; see `Passes`."""

    shift: np.ndarray
    scale: np.ndarray
    rotation: np.ndarray | None

    @classmethod
    def of(cls, x: np.ndarray, deviation: bool, whiten: bool) -> "Standard":
        """Computes the standardisation of frames (n, D), without changing them."""
        shift, scale = (part.astype(np.float32) for part in shift_and_scale(x))
        if not whiten:
            return cls(shift, scale if deviation else np.ones_like(scale), None)
        some = x[:: 1 + len(x) // WHITENED_FROM].copy()
        return cls(shift, scale, whitening(cls(shift, scale, None).apply(some)))

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Standardises frames (n, D) in place and returns them."""
        np.divide(np.subtract(x, self.shift, out=x), self.scale, out=x)
        if self.rotation is not None:
            for part in np.array_split(x, max(1, len(x) // 100_000)):
                part[:] = part @ self.rotation
        return x


class _Chunks(Sequence[np.ndarray]):
    """A sequence that computes chunk i on access and does not keep it."""

    def __init__(self, chunk: Callable[[int, Advance], np.ndarray], count: int, advance: Advance):
        self._chunk, self._count, self._advance = chunk, count, advance

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> np.ndarray:  # type: ignore[override]  # no slices
        return self._chunk(number, self._advance)


def _groups(records: np.ndarray, counts: np.ndarray, frames: int) -> list[np.ndarray]:
    """Cuts the records, in their order, into groups of about `frames` frames."""
    before = np.concatenate([[0], np.cumsum(counts[records])[:-1]])
    return np.split(records, np.flatnonzero(np.diff(before // max(frames, 1))) + 1)


def _gather(store: Store, features: Extractor, normalize: str, records: np.ndarray, advance: Advance) -> np.ndarray:
    """Returns the frames (n, D) of the recordings, in their order."""
    rows = np.concatenate([[0], np.cumsum(_frame_counts(store)[records])])
    first_row = dict(zip(records.tolist(), rows.tolist(), strict=False))
    x = np.empty((rows[-1], features.dim), np.float32)
    for piece, values in _stream(store, features, normalize, records, advance):
        row = first_row[piece.record] + piece.first
        x[row : row + piece.frames] = values
    return x


def _stream(
    store: Store, features: Extractor, normalize: str, records: Iterable[int], advance: Advance
) -> Iterator[tuple[Piece, np.ndarray]]:
    """Yields pieces of the recordings and their normalised features (n, D)."""
    means = feature_means(store, features) if normalize == "mean" else None
    for batch in features(store, records):
        for piece, values in batch:
            yield piece, values if means is None else values - means[piece.record]
        advance(batch.seconds)


def _frame_counts(store: Store) -> np.ndarray:
    return grid.frames(np.asarray(store.samples, np.int64))


def _hash(ids: np.ndarray, salt: int) -> np.ndarray:
    """Returns a hash of each record id, uint64 (splitmix64)."""
    x = ids.astype(np.uint64) + np.uint64((salt + 1) * 0x9E3779B97F4A7C15 % (1 << 64))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x ^ (x >> np.uint64(31))
