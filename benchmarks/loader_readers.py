"""Readers of the same crops in the same batches, which `loader.py` and others compare. Each yields seconds of audio."""

import io
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from array_record.python.array_record_module import ArrayRecordReader

from jepa_speech.batches.batch_plan import DataConfig, Plan, PlanItem
from jepa_speech.batches.pipeline import batches
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.store.store import Store, shard_path

ENDLESS = 2**40

Seconds = Iterator[float]  # of audio in each batch, as it comes
Crop = tuple[int, int, int]  # record, start, samples


def crops(item: PlanItem, samples: np.ndarray) -> list[Crop]:
    """Returns the crops of a batch, without filler."""
    rows = [(int(r), int(s)) for r, s, w in zip(item.records, item.starts, item.weight, strict=True) if w]
    return [(r, s, min(int(samples[r]) - s, item.bucket_samples)) for r, s in rows]


def plan_of(store: Store) -> Plan:
    config = DataConfig(store="")
    return Plan(store.samples, config.buckets, config.batch_seconds, seed=0)


def bare_loop(records: list[bytes], plan: Plan) -> Seconds:
    """libsndfile alone: FLAC bytes in memory to float32, no batch, no padding."""
    for item in plan:
        for record, start, wanted in crops(item, plan.samples):
            with soundfile.SoundFile(io.BytesIO(records[record])) as file:
                file.seek(start)
                file.read(wanted, dtype="float32")
        yield sum(wanted for *_, wanted in crops(item, plan.samples)) / SAMPLE_RATE


def decode_files(folder: Path, plan: Plan, process: int, processes: int, queue: Any) -> None:
    """libsndfile alone, in one of several processes: FLAC files to float32, no batch, no padding."""
    for number in range(process, ENDLESS, processes):
        rows = crops(plan[number], plan.samples)
        for record, start, wanted in rows:
            soundfile.read(folder / f"{record}.flac", wanted, start, dtype="float32")
        queue.put(sum(wanted for *_, wanted in rows) / SAMPLE_RATE)


def bare_processes(folder: Path, plan: Plan, processes: int) -> Seconds:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue(2 * processes)
    started = [
        context.Process(target=decode_files, args=(folder, plan, n, processes, queue), daemon=True)
        for n in range(processes)
    ]
    for process in started:
        process.start()
    try:
        while True:
            yield queue.get()
    finally:
        for process in started:
            process.terminate()
            process.join()


def ours(store: Store, workers: int) -> Seconds:
    stream = batches(store, plan_of(store), frozenset(), 0, ENDLESS, workers=workers)
    try:
        for batch in stream:
            yield float(batch["lengths"] @ batch["weight"]) / SAMPLE_RATE
    finally:
        stream.close()


class Files:
    """A torch dataset of whole batches, by number: the crops of the plan, read from files and padded."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan

    def __len__(self) -> int:
        return 100 * self.plan.batches_per_epoch

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        item = self.plan[i]
        rows = crops(item, self.plan.samples)
        audio = np.zeros((len(rows), item.bucket_samples), np.float32)
        for row, (record, start, wanted) in enumerate(rows):
            audio[row, :wanted] = soundfile.read(self.folder / f"{record}.flac", wanted, start, dtype="float32")[0]
        return audio, np.array([wanted for *_, wanted in rows])


def torch_loader(folder: Path, plan: Plan, workers: int) -> Seconds:
    from torch.utils.data import DataLoader

    loader = DataLoader(Files(folder, plan), batch_size=None, num_workers=workers, multiprocessing_context="spawn")
    for _, lengths in loader:
        yield float(lengths.sum()) / SAMPLE_RATE


class Cuts:
    """The plan's batches as CutSets, as a sampler yields them."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan

    def __iter__(self) -> Iterator[Any]:
        from lhotse import CutSet, MonoCut, Recording
        from lhotse.audio import AudioSource

        for number, item in enumerate(self.plan):
            cuts = []
            for record, start, wanted in crops(item, self.plan.samples):
                samples = int(self.plan.samples[record])
                source = [AudioSource("file", [0], str(self.folder / f"{record}.flac"))]
                recording = Recording(str(record), source, SAMPLE_RATE, samples, samples / SAMPLE_RATE)
                at, long = start / SAMPLE_RATE, wanted / SAMPLE_RATE
                cuts.append(MonoCut(f"{number}-{record}", at, long, 0, recording=recording))
            yield CutSet.from_cuts(cuts)


def lhotse_loader(folder: Path, plan: Plan, workers: int) -> Seconds:
    from lhotse.dataset import UnsupervisedWaveformDataset
    from torch.utils.data import DataLoader

    dataset = UnsupervisedWaveformDataset(collate=True)
    sampler = Cuts(folder, plan)
    loader = DataLoader(dataset, batch_size=None, sampler=sampler, num_workers=workers, multiprocessing_context="spawn")
    for batch in loader:
        yield float(batch["audio_lens"].sum()) / SAMPLE_RATE


def records_of(store: Store) -> list[bytes]:
    readers = [ArrayRecordReader(str(shard_path(store.path, n))) for n in range(len(store.info["shard_bytes"]))]
    places = zip(store.index["shard"].tolist(), store.index["position"].tolist(), strict=True)
    return [readers[shard].read([position])[0] for shard, position in places]
