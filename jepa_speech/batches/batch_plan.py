"""The batch plan: which crop of which recording is in each row of batch i, as a pure function of (seed, i)."""

import math
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from jepa_speech.errors import UsageError
from jepa_speech.features.grid import HOP, SAMPLE_RATE, WINDOW, samples
from jepa_speech.ingest.lengths import EVERY, Lengths, check_seconds
from jepa_speech.wording import counted

FRAMES_PER_SECOND = SAMPLE_RATE // HOP
SHUFFLE, CROP, SHARE = 0, 1, 2  # what a random stream is for: each is keyed by (seed, epoch, purpose, ...)

Share = tuple[int, float]  # so many records, one store's, and how often each of them stands in an epoch


@dataclass(frozen=True)
class DataConfig:
    """Config section `data`: what is read, and how it is put into batches."""

    store: str = ""  # path of a store, or several with weights: a:1,b:0.5
    heldout: str = ""  # a store, or several, whose loss is measured at every checkpoint; empty: none
    # a folder laid out as for `jepa-speech probe --data`, with phones.jsonl: every probe (train.probe_every) measures
    # phone accuracy on it; empty: none
    probe: str = ""
    # seconds of audio in one step, over all devices and micro-batches [fairseq: max_tokens, samples of one GPU]
    batch_seconds: float = 480.0
    # padded crop lengths in seconds; each is compiled once [fairseq: the longest is max_sample_size, in samples]
    buckets: tuple[float, ...] = (5.0, 10.0, 15.0)
    # of a recording longer than all buckets: one crop in each epoch (False) or one for each of its windows (True)
    windows: bool = False
    # shorter recordings are left out; 0: those that the objective cannot train on [fairseq: min_sample_size, in
    # samples]
    min_seconds: float = 0.0
    max_seconds: float = 0.0  # longer recordings are left out; 0: none
    workers: int = 0  # reader processes; 0: threads of this process [fairseq: num_workers]

    def __post_init__(self) -> None:
        if not self.buckets or min(self.buckets) < WINDOW / SAMPLE_RATE:
            raise UsageError(f"config key data.buckets = {self.buckets}: lengths of at least 0.025 s needed")
        if self.batch_seconds <= 0 or self.workers < 0:
            raise UsageError("config keys data.batch_seconds must be positive, data.workers at least 0")
        check_seconds(self.min_seconds, self.max_seconds, "config keys data.min_seconds, data.max_seconds")

    def lengths(self, needed: int) -> Lengths:
        """The lengths of the recordings that are used, if `needed` samples are the fewest that can be."""
        asked = Lengths.of(self.min_seconds, self.max_seconds)
        return Lengths(max(needed, asked.shortest), asked.longest)


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
    copies: np.ndarray  # (B,) 0, or which of the record's further rows of this epoch this is


class Plan(Sequence[PlanItem]):
    """An endless sequence of batches, with each record exactly once per epoch.

    A record goes to the smallest bucket that holds it. A record longer than all buckets is cropped to the largest, at
    another place in each epoch. A batch of a bucket has as many rows as fit into `batch_seconds`, and at least one. The
    last batch of a bucket in an epoch is filled with rows of weight 0. Batches of all buckets are shuffled together.

    `rows_multiple` only adds filler rows, so that devices divide the batch: it never changes which
    records form batch i, hence a run goes on with the same data on another number of devices.

    `windows`: a record longer than all buckets has, in each epoch, one row for each of its ⌈samples / largest⌉ equal
    parts, with a random crop from that part.

    `shares`: the stores' (records, weight), one after the other; by default all records have weight 1. A record of
    weight w stands ⌊w⌋ times in every epoch, and a fraction w - ⌊w⌋ of them once more: others in each epoch, as many
    in each, so that over E epochs every one of them stands E·w times, give or take one. (The fraction is rounded to
    whole rows in each bucket, to one at least.)

    `lengths`: recordings of other lengths are left out, also as what is mixed in. All others keep their numbers. If
    none is left out, the plan is the same as without `lengths`.

    Memory: 4 bytes for each row of an epoch, as many for each of two epochs' orders, and, if any recording is left out,
    for each of the others. Pickled, a plan leaves the orders behind and opens memory-mapped `samples` anew.
    """

    def __init__(
        self,
        samples: np.ndarray,
        buckets: Sequence[float],
        batch_seconds: float,
        seed: int,
        rows_multiple: int = 1,
        shares: Sequence[Share] | None = None,
        windows: bool = False,
        lengths: Lengths = EVERY,
    ) -> None:
        self.samples = samples if isinstance(samples, np.memmap) else np.asarray(samples)  # (N,)
        self.seed = seed
        self._buckets = tuple(buckets)
        self.bucket_samples = bucket_lengths(buckets)
        seconds = np.array(sorted(buckets))
        self.rows = np.maximum(1, np.floor(batch_seconds / seconds)).astype(int)  # rows that carry records
        self.padded_rows = -(-self.rows // rows_multiple) * rows_multiple
        if len(self.samples) == 0:
            raise UsageError("the store holds no records: run `jepa-speech prepare` on a folder with audio")
        self._shares = list(shares or [(len(self.samples), 1.0)])
        if not all(0 < weight < math.inf for _, weight in self._shares):
            raise UsageError(f"weights {[weight for _, weight in self._shares]} of stores: each above 0 needed")
        self._windowed = windows
        self._most_windows = self._windows(int(self.samples.max()))
        self._settings = batch_seconds, seed, rows_multiple, self._shares, windows, lengths

        used = lengths.hold(self.samples)
        if not used.any():
            raise UsageError(
                f"none of {counted(len(used), 'recording')} can be used: at least {lengths.shortest / SAMPLE_RATE:g} s "
                "needed (data.min_seconds, or what the objective needs"
                + (f"), at most {lengths.longest / SAMPLE_RATE:g} s (data.max_seconds)" if lengths.longest else ")")
                + "; prepare other recordings, or change these keys"
            )
        self._used = None if used.all() else np.flatnonzero(used).astype(np.uint32 if len(used) <= 2**32 else np.uint64)
        ends = [0, *self.bucket_samples[:-1].tolist(), math.inf]
        grouped = [self._grouped((self.samples > low) & (self.samples <= high) & used) for low, high in pairwise(ends)]
        self.members = [members for members, _ in grouped]
        self._groups = [groups for _, groups in grouped]
        rows = np.array([sum(group.rows for group in groups) for groups in self._groups])
        self.counts = -(-rows // self.rows)
        self.batches_per_epoch = int(self.counts.sum())
        self._epochs: dict[int, tuple[list[np.ndarray], np.ndarray]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _plan, (_where(self.samples), self._buckets, *self._settings)

    @property
    def used_samples(self) -> np.ndarray:
        """(N,) samples of the recordings that are not left out."""
        return self.samples if self._used is None else self.samples[self._used]

    def with_buckets(self, buckets: Sequence[float]) -> "Plan":
        """The plan of the same recordings with other buckets."""
        return Plan(self.samples, buckets, *self._settings)

    def __len__(self) -> int:
        return 2**62  # endless: the training loop decides when to stop

    def __iter__(self) -> Iterator[PlanItem]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> PlanItem:  # type: ignore[override]  # no slices
        epoch, place = divmod(int(i), self.batches_per_epoch)
        order, schedule = self._epoch(epoch)
        slot = int(schedule[place])  # slots 0, 1, ... number the batches of bucket 0, then of bucket 1, ...
        ends = np.cumsum(self.counts)
        bucket = int(np.searchsorted(ends, slot, side="right"))
        first = (slot - int(ends[bucket] - self.counts[bucket])) * self.rows[bucket]
        copies, real = np.divmod(order[bucket][first : first + self.rows[bucket]].astype(np.int64), len(self.samples))
        filler = self.padded_rows[bucket] - len(real)

        length = int(self.bucket_samples[bucket])
        crops = [self._crop(epoch, record, copy, length) for record, copy in zip(real, copies, strict=True)]
        columns = np.column_stack([real, np.array(crops), copies])  # (rows, 6)
        columns = np.append(columns, np.repeat(columns[:1], filler, axis=0), axis=0)
        records, starts, mix, mix_starts, context_starts, copies = columns.T
        weight = np.append(np.ones(len(real), np.float32), np.zeros(filler, np.float32))
        return PlanItem(length, epoch, records, starts, weight, mix, mix_starts, context_starts, copies)

    def padding_waste(self) -> float:
        """The share of an epoch's batches that is padding or filler."""
        used = 0.0
        for members, groups, length in zip(self.members, self._groups, self.bucket_samples, strict=True):
            for group in groups:
                samples = self.samples[members[group.here] % len(self.samples)]
                used += float(np.minimum(samples, length).mean()) * group.rows
        return 1.0 - used / float((self.counts * self.padded_rows * self.bucket_samples).sum())

    # ---- which rows an epoch has. A row is known by its entry: record + N · copy, copy = window + most windows · time

    def _grouped(self, fits: np.ndarray) -> tuple[np.ndarray, list["_Group"]]:
        """The entries of time 0 of a bucket's records, and where among them those of each store stand."""
        records = np.flatnonzero(fits)
        bounds = np.searchsorted(records, np.cumsum([0, *(count for count, _ in self._shares)]))
        times = max(math.ceil(weight) for _, weight in self._shares)
        size = len(self.samples) * self._most_windows * times
        if self._windowed and len(records):
            windows = self._windows(self.samples[records])
            ends = np.cumsum(windows)
            bounds = np.append(0, ends)[bounds]
            window = np.arange(ends[-1]) - np.repeat(ends - windows, windows)
            records = np.repeat(records, windows) + len(self.samples) * window
        groups = [
            _Group.of(share, first, last, weight)
            for share, (first, last, (_, weight)) in enumerate(zip(bounds[:-1], bounds[1:], self._shares, strict=True))
            if last > first
        ]
        return records.astype(np.uint32 if size <= 2**32 else np.uint64), groups

    def _rows_of(self, epoch: int, bucket: int) -> np.ndarray:
        """The entries that stand in this epoch, before they are shuffled."""
        members, step = self.members[bucket], len(self.samples) * self._most_windows
        parts = []
        for group in self._groups[bucket]:
            entries = members[group.here]
            parts += [entries + entries.dtype.type(step * time) for time in range(group.times)]
            if group.more:
                turn = np.random.default_rng((self.seed, 0, SHARE, bucket, group.share)).permutation(len(entries))
                again = (turn + epoch * group.more % len(entries)) % len(entries) >= len(entries) - group.more
                parts.append(entries[again] + entries.dtype.type(step * group.times))
        return np.concatenate(parts) if parts else members

    def _epoch(self, epoch: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Each bucket's rows in this epoch's order, and the order in which batches come."""
        if epoch not in self._epochs:
            order = []
            for b in range(len(self.members)):
                rows = self._rows_of(epoch, b)
                np.random.default_rng((self.seed, epoch, SHUFFLE, b)).shuffle(rows)
                order.append(rows)
            last = np.random.default_rng((self.seed, epoch, SHUFFLE, len(self.members)))
            # Neighbours are kept: readers that look ahead work on the next epoch while this one ends.
            kept = {e: v for e, v in self._epochs.items() if abs(e - epoch) == 1}
            self._epochs = kept | {epoch: (order, last.permutation(self.batches_per_epoch))}
        return self._epochs[epoch]

    def _crop(self, epoch: int, record: int, copy: int, length: int) -> tuple[int, int, int, int]:
        """Start of the crop, partner to mix in, start of the partner's crop, start of the context's crop."""
        key = (self.seed, epoch, CROP, int(record))
        random = np.random.default_rng((*key, int(copy)) if copy else key)
        places = self._places(record, length)
        window = copy % self._most_windows
        place = min(int((window + random.random()) / self._windows(int(self.samples[record])) * places), places - 1)
        others = (len(self.samples) if self._used is None else len(self._used)) - 1
        partner, partner_place = -1, 0
        if others:
            # A number of another type than theirs would make numpy copy all of them for each row.
            at = record if self._used is None else self._used.searchsorted(self._used.dtype.type(record))
            at = int(at + 1 + random.integers(others)) % (others + 1)
            partner = at if self._used is None else int(self._used[at])
            partner_place = int(random.random() * self._places(partner, length))
        context = (place + 1 + random.integers(places - 1)) % places if places > 1 else place
        return HOP * place, partner, HOP * partner_place, HOP * int(context)

    def _places(self, record: int, length: int) -> int:
        """How many crops a record has on the frame grid, so that stored labels slice with the audio."""
        return max(0, int(self.samples[record]) - length) // HOP + 1

    def _windows(self, samples: Any) -> Any:
        """How many rows of an epoch recordings of so many samples fill, (...) -> (...)."""
        return -(-samples // int(self.bucket_samples[-1])) if self._windowed else samples * 0 + 1


class _Group(NamedTuple):
    """A store's rows in a bucket: all of them stand `times` times, and `more` of them once more."""

    share: int
    here: slice
    times: int
    more: int

    @classmethod
    def of(cls, share: int, first: int, last: int, weight: float) -> "_Group":
        times = math.floor(weight)
        fraction = round(weight - times, 9)
        return cls(share, slice(first, last), times, max(1, round((last - first) * fraction)) if fraction else 0)

    @property
    def rows(self) -> int:
        return (self.here.stop - self.here.start) * self.times + self.more


def _where(samples: np.ndarray) -> Any:
    """A memory map of a whole file as what it takes to open it anew; any other array as it is."""
    base: Any = samples.base  # NumPy's types know only of arrays
    if isinstance(samples, np.memmap) and isinstance(base, mmap.mmap):
        return {"filename": samples.filename, "dtype": samples.dtype, "offset": samples.offset, "shape": samples.shape}
    return np.asarray(samples)


def _plan(samples: Any, *settings: Any) -> Plan:
    return Plan(np.memmap(mode="r", **samples) if isinstance(samples, dict) else samples, *settings)


def bucket_lengths(buckets: Sequence[float]) -> np.ndarray:
    """Bucket lengths in samples, ascending: the shortest that give each whole number of frames."""
    frames = [round(seconds * FRAMES_PER_SECOND) for seconds in sorted(buckets)]
    return np.array([samples(n) for n in frames])
