"""The loader against a bare loop of libsndfile, against itself with more workers, torch's DataLoader and Lhotse.

    python benchmarks/loader.py --flac STORE --pcm16 STORE --json benchmarks/loader.json --table benchmarks/loader.md

Two stores of the same recordings, one for each codec. All readers read the same crops in the same batches, from the
same FLAC bytes (torch and Lhotse from files, which are written out of the store first). In each turn, each reader runs
for some seconds. A ratio is that of two readers in one turn; the table shows the median and the range over turns. What
is not installed is left out and named. Linux only.
"""

import argparse
import importlib.util
import io
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from array_record.python.array_record_module import ArrayRecordReader
from tqdm import tqdm

from jepa_speech.batches.batch_plan import DataConfig, Plan, PlanItem
from jepa_speech.batches.pipeline import batches
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.files import write_json, write_text
from jepa_speech.store.store import Store, shard_path

ENDLESS = 2**40
PACKAGES = ("grain", "array_record", "numpy", "soundfile", "torch", "lhotse")

Seconds = Iterator[float]  # of audio in each batch, as it comes
Crop = tuple[int, int, int]  # record, start, samples


def crops(item: PlanItem, samples: np.ndarray) -> list[Crop]:
    """Returns the crops of a batch, without filler."""
    rows = [(int(r), int(s)) for r, s, w in zip(item.records, item.starts, item.weight, strict=True) if w]
    return [(r, s, min(int(samples[r]) - s, item.bucket_samples)) for r, s in rows]


def plan_of(store: Store) -> Plan:
    config = DataConfig(store="")
    return Plan(store.samples, config.buckets, config.batch_seconds, seed=0)


# ---- The readers --------------------------------------------------------------------------------------------------


def bare_loop(records: list[bytes], plan: Plan) -> Seconds:
    """libsndfile alone: FLAC bytes in memory to float32, no batch, no padding."""
    for item in plan:
        for record, start, wanted in crops(item, plan.samples):
            with soundfile.SoundFile(io.BytesIO(records[record])) as file:
                file.seek(start)
                file.read(wanted, dtype="float32")
        yield sum(wanted for *_, wanted in crops(item, plan.samples)) / SAMPLE_RATE


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


WORKERS = {1: "1 worker", 2: "2 workers"}
OTHERS = {"torch": torch_loader, "lhotse": lhotse_loader}


# ---- The comparison------------------------------------------------------------------------------------------------


@contextmanager
def one_core(only: bool) -> Iterator[None]:
    """Restricts this process, and threads that it starts in the block, to one core."""
    before = os.sched_getaffinity(0)
    if only:
        os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def rate(start: Callable[[], Seconds], seconds: float, pinned: bool) -> float:
    """Returns audio-seconds per second from the first batch on, without the start of processes."""
    with one_core(pinned):
        stream = start()
        next(stream)
        read, began = 0.0, time.monotonic()
        while (took := time.monotonic() - began) < seconds:
            read += next(stream)
        stream.close()
    return read / took


def records_of(store: Store) -> list[bytes]:
    readers = [ArrayRecordReader(str(shard_path(store.path, n))) for n in range(len(store.info["shard_bytes"]))]
    places = zip(store.index["shard"].tolist(), store.index["position"].tolist(), strict=True)
    return [readers[shard].read([position])[0] for shard, position in places]


def race(
    flac: Store, pcm16: Store, others: list[str], turns: int, seconds: float, folder: Path
) -> Iterator[dict[str, Any]]:
    """Yields the report after each turn, so that the user may stop early."""
    records, plan = records_of(flac), plan_of(flac)
    for number, record in enumerate(records):
        (folder / f"{number}.flac").write_bytes(record)
    runners: dict[str, tuple[Callable[[], Seconds], bool]] = {
        "libsndfile, bare loop, 1 core": (partial(bare_loop, records, plan), True),
        "ours, flac, 1 core": (partial(ours, flac, 0), True),
        "ours, pcm16, 1 core": (partial(ours, pcm16, 0), True),
    }
    installed = [name for name in others if importlib.util.find_spec(name)]
    for n, workers in WORKERS.items():
        runners[f"ours, flac, {workers}"] = partial(ours, flac, n), False
        runners[f"ours, pcm16, {workers}"] = partial(ours, pcm16, n), False
        for name in installed:
            runners[f"{name}, flac, {workers}"] = partial(OTHERS[name], folder, plan, n), False
    rates: dict[str, list[float]] = {name: [] for name in runners}
    load = [os.getloadavg()[0]]
    for _ in tqdm(range(turns), "turns"):
        for name, (start, pinned) in tqdm(runners.items(), "readers", leave=False):
            rates[name].append(rate(start, seconds, pinned))
        load.append(os.getloadavg()[0])
        yield {
            "records": len(flac),
            "hours": flac.hours,
            "mean_seconds": flac.hours * 3600 / len(flac),
            "seconds": seconds,
            "audio_seconds_per_second": rates,
            "ratios": ratios(rates, installed),
            "load_average": load,
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "versions": {name: version(name) for name in PACKAGES if importlib.util.find_spec(name)},
            "libsndfile": soundfile.__libsndfile_version__,
            "left_out": [name for name in others if name not in installed],
        }


def ratios(rates: dict[str, list[float]], others: list[str]) -> dict[str, list[float]]:
    """Returns the ratios of two readers in the same turns."""
    pairs = {
        "1 core of ours / bare libsndfile, flac (goal 0.5)": ("ours, flac, 1 core", "libsndfile, bare loop, 1 core"),
        "2 workers / 1, flac (goal 1.2)": ("ours, flac, 2 workers", "ours, flac, 1 worker"),
        "2 workers / 1, pcm16": ("ours, pcm16, 2 workers", "ours, pcm16, 1 worker"),
        "pcm16 / flac, 1 core": ("ours, pcm16, 1 core", "ours, flac, 1 core"),
    }
    for other in others:
        for workers in WORKERS.values():
            pairs[f"ours / {other}, flac, {workers}"] = f"ours, flac, {workers}", f"{other}, flac, {workers}"
    return {name: [a / b for a, b in zip(rates[x], rates[y], strict=True)] for name, (x, y) in pairs.items()}


def spread(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} | {min(values):.{digits}f} to {max(values):.{digits}f}"


def table(report: dict[str, Any]) -> str:
    lines = ["| reader | audio-s per s, median | range |", "|---|---:|---:|"]
    lines += [f"| {name} | {spread(values, 0)} |" for name, values in report["audio_seconds_per_second"].items()]
    lines += ["", "| in the same turn | ratio, median | range |", "|---|---:|---:|"]
    lines += [f"| {name} | {spread(values, 2)} |" for name, values in report["ratios"].items()]
    turns = len(next(iter(report["ratios"].values())))
    load = f"{min(report['load_average']):.1f} to {max(report['load_average']):.1f}"
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    lines += [
        "",
        f"{report['records']:,} recordings of LibriSpeech ({report['hours']:.1f} h, {report['mean_seconds']:.1f} s on "
        f"average), {turns} turns of {report['seconds']:g} s each, {report['cores']} cores, load average {load}; "
        f"Python {report['python']}, libsndfile {report['libsndfile']}, {versions}.",
    ]
    if report["left_out"]:
        lines.append(f"Not installed, so not measured: {', '.join(report['left_out'])}.")
    return "\n".join(lines) + "\n"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--flac", required=True, metavar="STORE")
    options.add_argument("--pcm16", required=True, metavar="STORE")
    options.add_argument("--others", nargs="*", choices=list(OTHERS), default=list(OTHERS), help="peers")
    options.add_argument("--turns", type=int, default=7)
    options.add_argument("--seconds", type=float, default=5.0, help="of each reader in each turn")
    options.add_argument("--json", metavar="FILE")
    options.add_argument("--table", metavar="FILE")
    args = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stores = Store(args.flac), Store(args.pcm16)
        for report in race(*stores, args.others, args.turns, args.seconds, Path(folder)):
            if args.json:
                write_json(args.json, report)
            if args.table:
                write_text(args.table, table(report))
    print(table(report))


if __name__ == "__main__":
    main()
