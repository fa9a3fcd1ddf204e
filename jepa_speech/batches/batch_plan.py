"""The batch plan: the recording and crop of each row of batch i, as a pure function of (seed, i)."""

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
SHUFFLE, CROP, SHARE = 0, 1, 2  # the purpose of a random stream, whose key is (seed, epoch, purpose, ...)
Share = tuple[int, float]  # (records of a store, weight: how often an epoch has each of them)


@dataclass(frozen=True)
class DataConfig:
    """Config section `data`: the stores to read, and how batches are formed."""

    store: str = ""  # path of a store, or gs:// or s3://, or several with weights: a:1,b:0.5
    heldout: str = ""  # a store, or several, on which the held-out loss is computed at every checkpoint; empty: none
    # a folder laid out as for `jepa-speech probe --data`, with phones.jsonl: every probe (train.probe_every) measures
    # phone accuracy on it; empty: none
    probe: str = ""
    # seconds of audio in one step, over all devices and micro-batches [fairseq: max_tokens, samples of one GPU]
    batch_seconds: float = 480.0
    # padded crop lengths in seconds; each is compiled once [fairseq: the longest is max_sample_size, in samples]
    buckets: tuple[float, ...] = (5.0, 10.0, 15.0)
    # a recording longer than all buckets gives one crop per epoch (False), or one for each of its windows (True)
    windows: bool = False
    # shorter recordings are left out; 0: the shortest that the objective can train on [fairseq: min_sample_size, in
    # samples]
    min_seconds: float = 0.0
    max_seconds: float = 0.0  # longer recordings are left out; 0: no limit
    # of a store in a bucket: shards are fetched this many seconds before batches use them; 0: when they are used
    fetch_ahead: float = 60.0
    workers: int = 0  # reader processes; 0: threads of this process [fairseq: num_workers]

    def __post_init__(self) -> None:
        if not self.buckets or min(self.buckets) < WINDOW / SAMPLE_RATE:
            raise UsageError(f"config key data.buckets = {self.buckets}: each must be at least 0.025 s")
        if self.batch_seconds <= 0:
            raise UsageError(f"config key data.batch_seconds = {self.batch_seconds}: must be positive")
        if self.workers < 0:
            raise UsageError(f"config key data.workers = {self.workers}: must be at least 0")
        if self.fetch_ahead < 0:
            raise UsageError(f"config key data.fetch_ahead = {self.fetch_ahead}: must be at least 0")
        check_seconds(self.min_seconds, self.max_seconds, "config keys data.min_seconds, data.max_seconds")

    def lengths(self, needed: int) -> Lengths:
        """Returns the limits on the length of recordings, if the objective needs at least `needed` samples."""
        asked = Lengths.of(self.min_seconds, self.max_seconds)
        return Lengths(max(needed, asked.shortest), asked.longest)


class PlanItem(NamedTuple):
    """One global batch. All arrays have B entries; offsets and lengths are in samples."""

    bucket_samples: int  # S
    epoch: int
    records: np.ndarray  # (B,) index in the store
    starts: np.ndarray  # (B,) first sample of the crop, a multiple of HOP
    weight: np.ndarray  # (B,) 1, or 0 for a filler row, which repeats row 0
    mix: np.ndarray  # (B,) another record to mix in, never the row's own; -1 if there is no other
    mix_starts: np.ndarray  # (B,) first sample of the crop of `mix`
    context_starts: np.ndarray  # (B,) first sample of a second crop of the record; another one, if it is long enough
    copies: np.ndarray  # (B,) number of this row among the record's rows in this epoch, from 0


class Plan(Sequence[PlanItem]):
    """An endless sequence of batches, with each record exactly once per epoch.

    A record goes to the smallest bucket that is long enough. A record longer than all buckets is cropped to the
    largest, at another position in each epoch. A batch has as many rows as fit into `batch_seconds`, and at least one.
    The last batch of a bucket in an epoch is padded by rows of weight 0. Batches of all buckets are shuffled together.

    `rows_multiple` only adds filler rows, so that the number of devices divides the batch. It does not change the
    records of batch i, so a run can resume with the same data on another number of devices.

    `windows`: a record longer than all buckets has ⌈samples / largest⌉ rows in each epoch. Its possible crop starts are
    split into as many equal parts, and each row's crop starts in one of them.

    `shares`: (records, weight) of each store, in order; by default all records have weight 1. An epoch has each record
    of weight w ⌊w⌋ times, and a fraction w - ⌊w⌋ of them once more. The fraction changes from epoch to epoch, so that E
    epochs have each record E·w times, ±1. It is rounded to whole rows per bucket, at least one.

    `lengths`: recordings of other lengths are left out, also for mixing. The others keep their numbers. If none is left
    out, the plan is the same as without `lengths`.

    Memory: 4 bytes for each row of an epoch, as many for each of two epochs' orders, and, if recordings are left out,
    4 bytes for each of the others. A pickled plan has no orders, and memory-mapped `samples` are opened again.
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
            raise UsageError("the store has no recordings: run `jepa-speech prepare` on a folder with audio")
        self._shares = list(shares or [(len(self.samples), 1.0)])
        if not all(0 < weight < math.inf for _, weight in self._shares):
            raise UsageError(f"weights {[weight for _, weight in self._shares]} of stores: each must be above 0")
        self._windowed = windows
        self._most_windows = self._windows(int(self.samples.max()))
        self._settings = batch_seconds, seed, rows_multiple, self._shares, windows, lengths

        used = lengths.hold(self.samples)
        if not used.any():
            raise UsageError(
                f"none of {counted(len(used), 'recording')} can be used: each must have at least "
                f"{lengths.shortest / SAMPLE_RATE:g} s (data.min_seconds, or the objective's minimum"
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
        """The lengths in samples of the recordings that are used."""
        return self.samples if self._used is None else self.samples[self._used]

    def with_buckets(self, buckets: Sequence[float]) -> "Plan":
        """Returns a plan of the same recordings with other buckets."""
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
        """Returns the share of an epoch's batches that is padding or filler rows."""
        used = 0.0
        for members, groups, length in zip(self.members, self._groups, self.bucket_samples, strict=True):
            for group in groups:
                samples = self.samples[members[group.here] % len(self.samples)]
                used += float(np.minimum(samples, length).mean()) * group.rows
        return 1.0 - used / float((self.counts * self.padded_rows * self.bucket_samples).sum())

    # ---- The rows of an epoch. A row is stored as one number: record + N · copy, copy = window + most windows · time.

    def _grouped(self, fits: np.ndarray) -> tuple[np.ndarray, list["_Group"]]:
        """Returns the entries of time 0 of a bucket's records, and the range of each store among them."""
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
        """Returns the entries of this epoch, before shuffling."""
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
        """Returns each bucket's rows in this epoch's order, and the order of the batches."""
        if epoch not in self._epochs:
            order = []
            for b in range(len(self.members)):
                rows = self._rows_of(epoch, b)
                np.random.default_rng((self.seed, epoch, SHUFFLE, b)).shuffle(rows)
                order.append(rows)
            last = np.random.default_rng((self.seed, epoch, SHUFFLE, len(self.members)))
            # Neighbouring epochs are kept, because readers work on the next epoch while this one ends.
            kept = {e: v for e, v in self._epochs.items() if abs(e - epoch) == 1}
            self._epochs = kept | {epoch: (order, last.permutation(self.batches_per_epoch))}
        return self._epochs[epoch]

    def _crop(self, epoch: int, record: int, copy: int, length: int) -> tuple[int, int, int, int]:
        """Returns start of the crop, record to mix in, start of its crop, start of the context crop."""
        key = (self.seed, epoch, CROP, int(record))
        random = np.random.default_rng((*key, int(copy)) if copy else key)
        places = self._places(record, length)
        window = copy % self._most_windows
        place = min(int((window + random.random()) / self._windows(int(self.samples[record])) * places), places - 1)
        others = (len(self.samples) if self._used is None else len(self._used)) - 1
        partner, partner_place = -1, 0
        if others:
            # With a number of another type, searchsorted would copy the whole array for each row.
            at = record if self._used is None else self._used.searchsorted(self._used.dtype.type(record))
            at = int(at + 1 + random.integers(others)) % (others + 1)
            partner = at if self._used is None else int(self._used[at])
            partner_place = int(random.random() * self._places(partner, length))
        context = (place + 1 + random.integers(places - 1)) % places if places > 1 else place
        return HOP * place, partner, HOP * partner_place, HOP * int(context)

    def _places(self, record: int, length: int) -> int:
        """Returns the number of crops of a record. They begin on the frame grid, as stored labels do."""
        return max(0, int(self.samples[record]) - length) // HOP + 1

    def _windows(self, samples: Any) -> Any:
        """Returns the number of windows of recordings with this many samples: (...) -> (...)."""
        return -(-samples // int(self.bucket_samples[-1])) if self._windowed else samples * 0 + 1


class _Group(NamedTuple):
    """A store's rows in a bucket: an epoch has all of them `times` times, and `more` of them once more."""

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
    """Returns the arguments to open a memory map of a whole file again; other arrays as they are."""
    base: Any = samples.base  # NumPy's type stubs allow only arrays here
    if isinstance(samples, np.memmap) and isinstance(base, mmap.mmap):
        return {"filename": samples.filename, "dtype": samples.dtype, "offset": samples.offset, "shape": samples.shape}
    return np.asarray(samples)


def _plan(samples: Any, *settings: Any) -> Plan:
    return Plan(np.memmap(mode="r", **samples) if isinstance(samples, dict) else samples, *settings)


def bucket_lengths(buckets: Sequence[float]) -> np.ndarray:
    """Returns bucket lengths in samples, ascending: the shortest with the nearest whole number of frames."""
    frames = [round(seconds * FRAMES_PER_SECOND) for seconds in sorted(buckets)]
    return np.array([samples(n) for n in frames])
