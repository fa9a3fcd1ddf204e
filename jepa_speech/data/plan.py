"""The plan: which crop of which record stands in which row of batch i, as a pure function of (seed, i)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jepa_speech.errors import UsageError
from jepa_speech.features.grid import HOP, SAMPLE_RATE, WINDOW, samples

FRAMES_PER_SECOND = SAMPLE_RATE // HOP
SHUFFLE, CROP = 0, 1  # what a random stream is for: each is keyed by (seed, epoch, purpose, ...)


@dataclass(frozen=True)
class DataConfig:
    """Config section `data`."""

    store: str
    batch_seconds: float = 480.0  # audio per step, over all devices and micro-batches
    buckets: tuple[float, ...] = (5.0, 10.0, 15.0)  # crop lengths in seconds: one compiled step each
    workers: int = 0  # reading processes; 0 reads in threads of this one

    def __post_init__(self) -> None:
        if not self.buckets or min(self.buckets) < WINDOW / SAMPLE_RATE:
            raise UsageError(f"config key data.buckets = {self.buckets}: lengths of at least 0.025 s needed")
        if self.batch_seconds <= 0 or self.workers < 0:
            raise UsageError("config keys data.batch_seconds must be positive, data.workers at least 0")


class PlanItem(NamedTuple):
    """One global batch. All arrays have B entries; offsets and lengths are in samples."""

    bucket_samples: int  # S
    epoch: int
    records: np.ndarray  # (B,) index in the store
    starts: np.ndarray  # (B,) where the crop begins, a multiple of HOP
    weight: np.ndarray  # (B,) 1, or 0 for a filler row, which repeats row 0
    mix: np.ndarray  # (B,) another record to mix in, never the row's own; -1 where the store has no other
    mix_starts: np.ndarray  # (B,)
    context_starts: np.ndarray  # (B,) where a second crop of the record begins: elsewhere, if it is long enough


class Plan(Sequence[PlanItem]):
    """An endless sequence of batches, each record exactly once per epoch.

    A record goes to the smallest bucket that holds it; one longer than all of them is cropped to the
    largest. A bucket's batch holds as many rows as `batch_seconds` has room for (one at least); the
    last of an epoch is filled up with rows of weight 0. Batches of all buckets come in one shuffled order.

    `rows_multiple` only adds filler rows, so that devices divide the batch: it never changes which
    records form batch i, hence a run goes on with the same data on another number of devices.
    """

    def __init__(
        self,
        samples: np.ndarray,
        buckets: Sequence[float],
        batch_seconds: float,
        seed: int,
        rows_multiple: int = 1,
    ) -> None:
        self.samples = np.asarray(samples)  # (N,)
        self.seed = seed
        self.bucket_samples = bucket_lengths(buckets)
        seconds = np.array(sorted(buckets))
        self.rows = np.maximum(1, np.floor(batch_seconds / seconds)).astype(int)  # rows that carry records
        self.padded_rows = -(-self.rows // rows_multiple) * rows_multiple
        bucket = np.searchsorted(self.bucket_samples, self.samples).clip(max=len(self.rows) - 1)  # (N,)
        self.members = [np.flatnonzero(bucket == b).astype(np.uint32) for b in range(len(self.rows))]
        self.counts = np.array([-(-len(m) // r) for m, r in zip(self.members, self.rows, strict=True)])
        self.batches_per_epoch = int(self.counts.sum())
        if self.batches_per_epoch == 0:
            raise UsageError("the store holds no records: run `jepa-speech prepare` on a folder with audio")
        self._epochs: dict[int, tuple[list[np.ndarray], np.ndarray]] = {}

    def __len__(self) -> int:
        return 2**62  # endless: the training loop decides when to stop

    def __iter__(self) -> Iterator[PlanItem]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> PlanItem:
        epoch, place = divmod(int(i), self.batches_per_epoch)
        order, schedule = self._epoch(epoch)
        slot = int(schedule[place])  # slots 0, 1, ... number the batches of bucket 0, then of bucket 1, ...
        ends = np.cumsum(self.counts)
        bucket = int(np.searchsorted(ends, slot, side="right"))
        first = (slot - int(ends[bucket] - self.counts[bucket])) * self.rows[bucket]
        real = order[bucket][first : first + self.rows[bucket]].astype(np.int64)
        filler = self.padded_rows[bucket] - len(real)

        length = int(self.bucket_samples[bucket])
        crops = np.array([self._crop(epoch, record, length) for record in real])  # (rows, 4)
        starts, mix, mix_starts, context_starts = (np.append(c, np.repeat(c[:1], filler)) for c in crops.T)
        weight = np.append(np.ones(len(real), np.float32), np.zeros(filler, np.float32))
        records = np.append(real, np.repeat(real[:1], filler))
        return PlanItem(length, epoch, records, starts, weight, mix, mix_starts, context_starts)

    def padding_waste(self) -> float:
        """The share of an epoch's batches that is padding or filler."""
        batch = self.counts * self.padded_rows * self.bucket_samples
        return 1.0 - float(np.minimum(self.samples, self.bucket_samples[-1]).sum() / batch.sum())

    def _epoch(self, epoch: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Each bucket's records in this epoch's order, and the order in which batches come."""
        if epoch not in self._epochs:
            order = [
                np.random.default_rng((self.seed, epoch, SHUFFLE, b)).permutation(members)
                for b, members in enumerate(self.members)
            ]
            last = np.random.default_rng((self.seed, epoch, SHUFFLE, len(self.members)))
            # Neighbours are kept: readers that look ahead work on the next epoch while this one ends.
            kept = {e: v for e, v in self._epochs.items() if abs(e - epoch) == 1}
            self._epochs = kept | {epoch: (order, last.permutation(self.batches_per_epoch))}
        return self._epochs[epoch]

    def _crop(self, epoch: int, record: int, length: int) -> tuple[int, int, int, int]:
        """Start of the crop, partner to mix in, start of the partner's crop, start of the context's crop."""
        random = np.random.default_rng((self.seed, epoch, CROP, int(record)))
        places = self._places(record, length)
        place = int(random.random() * places)
        others = len(self.samples) - 1
        partner, partner_place = -1, 0
        if others:
            partner = int(record + 1 + random.integers(others)) % (others + 1)
            partner_place = int(random.random() * self._places(partner, length))
        context = (place + 1 + random.integers(places - 1)) % places if places > 1 else place
        return HOP * place, partner, HOP * partner_place, HOP * int(context)

    def _places(self, record: int, length: int) -> int:
        """How many crops a record has on the frame grid, so that stored labels slice with the audio."""
        return max(0, int(self.samples[record]) - length) // HOP + 1


def bucket_lengths(buckets: Sequence[float]) -> np.ndarray:
    """Bucket lengths in samples, ascending: the shortest that give each whole number of frames."""
    frames = [round(seconds * FRAMES_PER_SECOND) for seconds in sorted(buckets)]
    return np.array([samples(n) for n in frames])
