"""The loader against bare loops of libsndfile, against itself with more workers, torch's DataLoader and Lhotse.

    python benchmarks/loader.py --flac STORE --pcm16 STORE --json benchmarks/loader.json --table benchmarks/loader.md

Two stores of the same recordings, one for each codec. All readers read the same crops in the same batches, from the
same FLAC bytes (torch and Lhotse from files, which are written out of the store first). In each turn, each reader runs
for some seconds. A rate is given by the clock, and for each second of processor time of all processes together
(core-s), which depends less on other programs. A ratio is that of two readers in one turn; the table shows the median
and the range over turns. What is not installed is left out and named. Linux only.
"""

import argparse
import importlib.util
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

import psutil
import soundfile
from loader_readers import Seconds, bare_loop, bare_processes, lhotse_loader, ours, plan_of, records_of, torch_loader
from tqdm import tqdm

from jepa_speech.files import write_json, write_text
from jepa_speech.store.store import Store

PACKAGES = ("grain", "array_record", "numpy", "soundfile", "torch", "lhotse")
WORKERS = {1: "1 worker", 2: "2 workers"}
OTHERS = {"torch": torch_loader, "lhotse": lhotse_loader}


@contextmanager
def one_core(only: bool) -> Iterator[None]:
    """Restricts this process, and threads that it starts in the block, to one core."""
    before = os.sched_getaffinity(0)
    if only:
        os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def processor_seconds() -> float:
    """Returns the processor time of this process and of its children that run."""
    this = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in (this, *this.children(recursive=True)))


def rates(start: Callable[[], Seconds], seconds: float, pinned: bool) -> tuple[float, float]:
    """Returns audio-seconds per second and per core-second from the first batch on, without the start of processes."""
    with one_core(pinned):
        stream = start()
        next(stream)
        read, began, spent = 0.0, time.monotonic(), processor_seconds()
        while (took := time.monotonic() - began) < seconds:
            read += next(stream)
        spent = processor_seconds() - spent
        stream.close()
    return read / took, read / spent


def rate(start: Callable[[], Seconds], seconds: float, pinned: bool) -> float:
    """Returns audio-seconds per second."""
    return rates(start, seconds, pinned)[0]


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
        if n > 1:
            runners[f"libsndfile, bare loops, {n} processes"] = partial(bare_processes, folder, plan, n), False
        runners[f"ours, flac, {workers}"] = partial(ours, flac, n), False
        runners[f"ours, pcm16, {workers}"] = partial(ours, pcm16, n), False
        for name in installed:
            runners[f"{name}, flac, {workers}"] = partial(OTHERS[name], folder, plan, n), False
    by_clock: dict[str, list[float]] = {name: [] for name in runners}
    by_core: dict[str, list[float]] = {name: [] for name in runners}
    load = [os.getloadavg()[0]]
    for _ in tqdm(range(turns), "turns"):
        for name, (start, pinned) in tqdm(runners.items(), "readers", leave=False):
            clock, core = rates(start, seconds, pinned)
            by_clock[name].append(clock)
            by_core[name].append(core)
        load.append(os.getloadavg()[0])
        yield {
            "records": len(flac),
            "hours": flac.hours,
            "mean_seconds": flac.hours * 3600 / len(flac),
            "seconds": seconds,
            "audio_seconds_per_second": by_clock,
            "audio_seconds_per_core_second": by_core,
            "ratios": ratios(by_clock, installed),
            "ratios_of_processor_time": ratios(by_core, installed),
            "load_average": load,
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "versions": {name: version(name) for name in PACKAGES if importlib.util.find_spec(name)},
            "libsndfile": soundfile.__libsndfile_version__,
            "left_out": [name for name in others if name not in installed],
        }


def ratios(rates: dict[str, list[float]], others: list[str]) -> dict[str, list[float]]:
    """Returns the ratios of two readers in the same turns."""
    one, two = "libsndfile, bare loop, 1 core", "libsndfile, bare loops, 2 processes"
    pairs = {
        "1 core of ours / bare libsndfile, flac (goal 0.9)": ("ours, flac, 1 core", one),
        "1 worker of ours / bare libsndfile, flac (goal 0.9)": (
            "ours, flac, 1 worker",
            "libsndfile, bare loop, 1 core",
        ),
        "2 workers of ours / 2 bare libsndfile, flac (goal 0.9)": ("ours, flac, 2 workers", two),
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
    clock, core = report["audio_seconds_per_second"], report["audio_seconds_per_core_second"]
    lines = [
        "| reader | audio-s per s, median | range | audio-s per core-s, median | range |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [f"| {name} | {spread(clock[name], 0)} | {spread(core[name], 0)} |" for name in clock]
    clock, core = report["ratios"], report["ratios_of_processor_time"]
    lines += ["", "| in the same turn | ratio by the clock, median | range | per core-s, median | range |"]
    lines += ["|---|---:|---:|---:|---:|"]
    lines += [f"| {name} | {spread(clock[name], 2)} | {spread(core[name], 2)} |" for name in clock]
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
