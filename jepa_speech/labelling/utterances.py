"""Padded batches of whole recordings, for features of every frame.

Batches have few shapes, so that few programs are compiled. A recording longer than the longest bucket is cut into
pieces. They overlap by the context of delta features, so that features equal those of the uncut recording.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from jepa_speech.features import grid
from jepa_speech.features.deltas import REACH
from jepa_speech.store.store import Store

BUCKETS = tuple(grid.frames(seconds * grid.SAMPLE_RATE) for seconds in (2, 4, 8, 16, 32))  # frames
_BATCH_FRAMES = 2 * BUCKETS[-1]
_READERS = 4  # threads; decoding releases Python's global lock


@dataclass(frozen=True)
class Piece:
    """Frames first ... first + frames - 1 of a recording; in its row of the batch they begin at frame `lead`."""

    record: int
    first: int
    frames: int
    lead: int
    trail: int

    @property
    def row_frames(self) -> int:
        return self.lead + self.frames + self.trail

    @property
    def here(self) -> slice:
        return slice(self.lead, self.lead + self.frames)


def pieces(record: int, frames: int) -> Iterator[Piece]:
    """Cuts a recording into pieces; one piece if it fits the longest bucket."""
    if frames <= BUCKETS[-1]:
        yield Piece(record, 0, frames, 0, 0)
        return
    step = BUCKETS[-1] - 2 * REACH
    for first in range(0, frames, step):
        count = min(step, frames - first)
        yield Piece(record, first, count, min(REACH, first), min(REACH, frames - first - count))


@dataclass(frozen=True)
class PaddedBatch:
    """audio (B, S) float32 with RMS 1, padded by 0 · lengths (B,) int32 · row i has piece i, further rows are empty."""

    pieces: list[Piece]
    audio: np.ndarray
    lengths: np.ndarray


def padded_batches(store: Store, records: Iterable[int]) -> Iterator[PaddedBatch]:
    """Yields every frame of the given recordings once. A batch is yielded when its bucket is full, so order varies."""
    with ThreadPoolExecutor(_READERS) as pool:
        ahead = None
        for bucket, group in _grouped(store, records):
            waves = [pool.submit(_read, store, piece) for piece in group]
            if ahead is not None:
                yield _pad(*ahead)
            ahead = bucket, group, waves
        if ahead is not None:
            yield _pad(*ahead)


def _grouped(store: Store, records: Iterable[int]) -> Iterator[tuple[int, list[Piece]]]:
    waiting: dict[int, list[Piece]] = {bucket: [] for bucket in BUCKETS}
    for record in records:
        for piece in pieces(int(record), int(grid.frames(store.samples[record]))):
            bucket = next(size for size in BUCKETS if piece.row_frames <= size)
            waiting[bucket].append(piece)
            if len(waiting[bucket]) == _BATCH_FRAMES // bucket:
                yield bucket, waiting[bucket]
                waiting[bucket] = []
    yield from ((bucket, group) for bucket, group in waiting.items() if group)


def _read(store: Store, piece: Piece) -> np.ndarray:
    start = (piece.first - piece.lead) * grid.HOP
    return store.read(piece.record, start, grid.samples(piece.row_frames)) / store.level[piece.record]


def _pad(bucket: int, group: list[Piece], waves: list) -> PaddedBatch:
    rows = _BATCH_FRAMES // bucket
    audio, lengths = np.zeros((rows, grid.samples(bucket)), np.float32), np.zeros(rows, np.int32)
    for row, wave in enumerate(waves):
        samples = wave.result()
        audio[row, : len(samples)] = samples
        lengths[row] = len(samples)
    return PaddedBatch(group, audio, lengths)
