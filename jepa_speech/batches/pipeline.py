"""Makes the batches of a plan: reads the crops of this process's rows ahead of the loop, and pads them."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import grain
import numpy as np
from absl import flags
from grain._src.python.ipc.shared_memory_array import SharedMemoryArray

from jepa_speech.batches.batch_plan import PlanItem
from jepa_speech.batches.weighted_stores import Joined
from jepa_speech.errors import UsageError
from jepa_speech.features.grid import HOP, frames
from jepa_speech.ingest.parallel import be_a_worker

Batch = dict[str, np.ndarray]
EXTRAS = frozenset({"mix", "context", "anchor", "anchor_mean", "text"})


class Batches(Iterator[Batch], Protocol):
    """An iterator of batches; `close` ends its threads and processes."""

    def close(self) -> None: ...


class Recordings(Protocol):
    """The interface of a store that the pipeline uses."""

    @property
    def samples(self) -> np.ndarray:
        """(N,) lengths in samples."""

    @property
    def level(self) -> np.ndarray | Joined:
        """(N,) RMS of each whole recording."""

    def read(self, i: int, start: int = 0, samples: int | None = None) -> np.ndarray: ...


class StoredLabels(Protocol):
    """The interface of stored labels that the pipeline uses."""

    def slice(self, i: int, first_frame: int, frames: int) -> tuple[np.ndarray, np.ndarray]: ...


class Texts(Protocol):
    """The interface of transcripts that the pipeline uses."""

    def text_ids(self, records: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray]: ...


@dataclass(frozen=True)
class Span(Sequence[PlanItem]):
    """Items start ... stop-1 of a plan. Starting in the middle costs nothing."""

    plan: Sequence[PlanItem]
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, i: int) -> PlanItem:  # type: ignore[override]  # no slices
        return self.plan[self.start + int(i)]


@dataclass(frozen=True)
class Reader:
    """Turns a plan item into the batch of one process. Shapes: see `batches`.

    shared: crops are read into shared memory, so that a worker process hands them over without a copy.
    """

    store: Recordings
    batch_fields: frozenset[str]
    labels: StoredLabels | None
    means: np.ndarray | Joined | None
    texts: Texts | None
    process_index: int
    process_count: int
    shared: bool = False

    def __call__(self, item: PlanItem) -> Batch:
        memory: list[np.ndarray] = []
        try:
            return self._batch(item, memory)
        except BaseException:
            for array in memory:
                if isinstance(array, SharedMemoryArray):
                    array.unlink_on_del()  # which the process that gets the batch does otherwise
            raise

    def _batch(self, item: PlanItem, memory: list[np.ndarray]) -> Batch:
        """Returns the batch, and adds the memory of its crops to `memory` as soon as it is there."""
        mine = own_rows(item, self.process_index, self.process_count)
        rows = mine.stop - mine.start
        records, starts = item.records[mine], item.starts[mine]
        audio, lengths = self._crops(records, starts, item.bucket_samples, memory)
        batch = {
            "audio": audio,
            "lengths": lengths,
            "record_id": (records + len(self.store.samples) * item.copies[mine]).astype(np.uint32),
            "epoch": np.full(rows, item.epoch, np.int32),
            "level": np.asarray(self.store.level[records], np.float32),
            "weight": item.weight[mine],
        }
        if "mix" in self.batch_fields:
            partners = item.mix[mine]
            mixed = self._crops(partners, item.mix_starts[mine], item.bucket_samples, memory)
            batch["mix"], batch["mix_lengths"] = mixed
            batch["mix_level"] = np.where(partners < 0, 1, self.store.level[partners]).astype(np.float32)
        if "context" in self.batch_fields:
            context = self._crops(records, item.context_starts[mine], item.bucket_samples, memory)
            batch["context"], batch["context_lengths"] = context
        if "anchor" in self.batch_fields:
            batch["anchor_ids"], batch["anchor_probs"] = self._labels(records, starts, lengths, item)
        if "anchor_mean" in self.batch_fields:
            assert self.means is not None
            batch["anchor_mean"] = np.asarray(self.means[records], np.float32)
        if "text" in self.batch_fields:
            assert self.texts is not None
            batch["text_ids"], batch["text_lengths"] = self.texts.text_ids(records, item.bucket_samples)
        return batch

    def _crops(
        self, records: np.ndarray, starts: np.ndarray, length: int, memory: list[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns zero-padded crops (B, S) and their valid lengths (B,); record -1 gives length 0."""
        shape = len(records), length
        memory.append(SharedMemoryArray(shape, np.float32) if self.shared else np.zeros(shape, np.float32))
        audio = np.asarray(memory[-1])
        lengths = np.zeros(len(records), np.int32)
        for row, (record, start) in enumerate(zip(records.tolist(), starts.tolist(), strict=True)):
            if record >= 0:
                valid = min(int(self.store.samples[record]) - start, length)
                audio[row, :valid] = self.store.read(record, start, valid)
                lengths[row] = valid
        return memory[-1], lengths

    def _labels(
        self, records: np.ndarray, starts: np.ndarray, lengths: np.ndarray, item: PlanItem
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the stored labels of each crop, zero after its length: ids and probs (B, T, k)."""
        assert self.labels is not None
        crops = [
            self.labels.slice(record, start // HOP, frames(length))
            for record, start, length in zip(records.tolist(), starts.tolist(), lengths.tolist(), strict=True)
        ]
        shape = (len(records), frames(item.bucket_samples), crops[0][0].shape[-1])
        ids, probs = np.zeros(shape, np.int32), np.zeros(shape, np.float32)  # (B, T, k)
        for row, (crop_ids, crop_probs) in enumerate(crops):
            ids[row, : len(crop_ids)] = crop_ids
            probs[row, : len(crop_probs)] = crop_probs
        return ids, probs


def own_rows(item: PlanItem, process_index: int, process_count: int) -> slice:
    """Returns the rows of a batch that one of several processes reads."""
    rows = len(item.records) // process_count
    return slice(process_index * rows, (process_index + 1) * rows)


def batches(
    store: Recordings,
    plan: Sequence[PlanItem],
    batch_fields: frozenset[str],
    start: int,
    stop: int,
    process_index: int = 0,
    process_count: int = 1,
    workers: int = 0,
    labels: StoredLabels | None = None,
    means: np.ndarray | Joined | None = None,
    texts: Texts | None = None,
) -> Batches:
    """Returns an iterator of batches start ... stop-1 of the plan; workers and threads do not change them.

    Each is a dict of numpy arrays with this process's rows:
        audio (B, S) float32 as stored, zero padded · lengths (B,) int32
        record_id (B,) uint32: the record, plus a multiple of N if it has several rows in an epoch, so that masks differ
        epoch (B,) int32 · level (B,) float32 RMS of the whole recording · weight (B,) float32, 0 = filler
        with "mix" in `batch_fields`: mix (B, S), mix_lengths (B,), mix_level (B,): another recording, never its own
        with "context": context (B, S), context_lengths (B,): another crop of the same recording, if it is long enough
        with "anchor": anchor_ids (B, T, k) int32, anchor_probs (B, T, k) float32 from `labels`
        with "anchor_mean": anchor_mean (B, F) float32 from `means` (N, F)
        with "text": text_ids (B, U) int32, zero padded, text_lengths (B,) int32 from `texts`; U depends on the bucket

    Raises UsageError if `batch_fields` has an unknown name, or one whose source is not given.
    """
    unknown = batch_fields - EXTRAS
    given = {"anchor": labels, "anchor_mean": means, "text": texts}
    if unknown or any(name in batch_fields and source is None for name, source in given.items()):
        wanted = ", ".join(sorted(unknown or batch_fields))
        raise UsageError(f"the objective needs the batch fields {wanted}, but this command has no source for them")
    reader = Reader(store, batch_fields, labels, means, texts, process_index, process_count, shared=workers > 0)
    dataset = grain.MapDataset.source(Span(plan, start, stop)).map(reader)
    if workers == 0:
        return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)))
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # grain's worker processes read absl's flags; jepa-speech does not use them
    # A worker reads one batch at a time and puts it into its buffer. Of a batch in another buffer, nothing would free
    # the shared memory when the stream is closed.
    stream = dataset.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
    return freed_when_closed(iter(stream.mp_prefetch(options, worker_init_fn=start_worker)))


def freed_when_closed(stream: grain.DatasetIterator) -> Generator[Batch, None, None]:
    """Yields the batches of worker processes; frees their shared memory at the end, except of arrays in use.

    A thread of grain frees it. If the process exited earlier, Python would warn about "leaked shared_memory objects".
    """
    try:
        yield from stream
    finally:
        stream.close()
        _wait_until_freed()


def _wait_until_freed() -> None:
    # 2026-11, grain 0.2.18: there is no public way to wait for this thread (tests/test_jax_api.py).
    if pool := SharedMemoryArray._del_thread_pool:
        pool.apply(len, ((),))  # the pool has one thread, so its earlier tasks are done first


def start_worker(worker: int, workers: int) -> None:
    """Sets up a reader process: it ignores Ctrl-C, because the loop ends it after saving, and ends with its parent."""
    be_a_worker()
