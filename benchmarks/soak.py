"""Read many short records for long: growth of the loader's memory, size of the index, time of a restore.

    python benchmarks/soak.py --records 1000000 --seconds 600 --json benchmarks/soak.json --plot benchmarks/soak.png

Makes seeded WAV files of 0.1 to 0.3 s (12 GB for a million, and a store of the same size) and prepares them with
`jepa-speech prepare`. Then it reads the store epoch after epoch and samples the anonymous memory of the loader and its
workers once a second. The result is the change of the mean memory from one whole epoch to the next, after a warm-up of
two epochs (a plan holds the orders of two epochs, and of three while one ends). --rate limits the utterances per second
after the warm-up. The folder --work is reused if an earlier run filled it. Linux only.
"""

import argparse
import json
import math
import os
import platform
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student
from tqdm import tqdm

from jepa_speech.batches.batch_plan import Plan
from jepa_speech.batches.pipeline import batches
from jepa_speech.files import write_json
from jepa_speech.memory import anonymous, family
from jepa_speech.store.store import Store

RATE = 16_000
PER_FOLDER = 1000
WAV_HEADER = "<4sI8sIHHIIHH4sI"
BUCKETS, BATCH_SECONDS = (0.1, 0.2, 0.3), 60.0
WARM_UP, FEWEST = 2, 4  # epochs: not looked at, and looked at as whole ones
PAGE_MB = os.sysconf("SC_PAGESIZE") / 1e6


def make(folder: Path, records: int) -> None:
    """Writes noise, cut from one long signal at a different position for each record, so that all files differ."""
    random = np.random.default_rng(0)
    noise = (2000 * random.standard_normal(4_000_000)).astype("<i2")
    lengths = random.integers(RATE // 10, 3 * RATE // 10, records)
    places = random.permutation(len(noise) - RATE)[:records]
    for i in tqdm(range(records), "make", unit=" files", disable=None):
        if i % PER_FOLDER == 0:
            (folder / f"{i // PER_FOLDER:04d}").mkdir(parents=True, exist_ok=True)
        size = 2 * int(lengths[i])
        head = b"RIFF", 36 + size, b"WAVEfmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16, b"data", size
        data = struct.pack(WAV_HEADER, *head) + noise[places[i] : places[i] + lengths[i]].tobytes()
        (folder / f"{i // PER_FOLDER:04d}" / f"{i:07d}.wav").write_bytes(data)


def restore(store: Path, step: int, workers: int) -> float:
    """Returns the seconds from opening the store to batch `step`, in this process with loaded modules."""
    began = time.monotonic()
    with closing(stream(Store(store), step, workers)) as data:
        next(data)
        return time.monotonic() - began


def plan_of(store: Store) -> Plan:
    return Plan(store.samples, BUCKETS, BATCH_SECONDS, seed=0)


def stream(store: Store, start: int, workers: int) -> Any:
    return batches(store, plan_of(store), frozenset({"mix"}), start, 2**40, workers=workers)


def watch(store: Path, seconds: float, workers: int, rate: float) -> dict[str, Any]:
    """Reads for some time, until enough epochs are complete; returns the anonymous MB of the loader and its workers.

    Samples once per second (or 100 times). After the warm-up, reads at most `rate` utterances per second on average.
    """
    opened, every = Store(store), min(1.0, seconds / 100)
    rows = np.full((20 * round(seconds / every), 5), -1.0)  # written to at once: a list would grow while we look
    looks, read, last, warm = 0, 0, 0.0, None  # warm: when the warm-up ended, and what had been read
    bar = tqdm(total=seconds, desc="read", unit="s", disable=None)
    with closing(stream(opened, 0, workers)) as data, bar:
        batch = next(data)  # the clock starts when workers are up
        began = time.monotonic()
        members = [pid for pid in family(os.getpid()) if pid != os.getpid()]
        while (now := time.monotonic() - began) < seconds or batch["epoch"][0] <= WARM_UP + FEWEST:
            read += int(batch["weight"].sum())
            if now >= last + every:
                bar.update(now - last)
                last = now
                held = anonymous(os.getpid()), sum(map(anonymous, members))
                rows[looks] = now, *(n / 1e6 for n in held), read, batch["epoch"][0]
                looks += 1
            if warm is None and batch["epoch"][0] >= WARM_UP:
                warm = now, read
            if warm and (ahead := warm[0] + (read - warm[1]) / rate - now) > 0:
                time.sleep(ahead)
            batch = next(data)
    seconds_of, loader, of_workers, utterances, epoch = rows[:looks].T
    return {
        "seconds": seconds_of.tolist(),
        "loader_mb": loader.tolist(),
        "workers_mb": of_workers.tolist(),
        "utterances": utterances.astype(int).tolist(),
        "epoch": epoch.astype(int).tolist(),
    }


def growth(seconds: np.ndarray, megabytes: np.ndarray, epoch: np.ndarray) -> dict[str, Any]:
    """Returns MB per hour: the mean change between the means of consecutive epochs, with a 95% interval (Student's t).

    Only complete epochs after the warm-up count. Samples within an epoch are strongly correlated, because allocations
    change mainly at the ends of epochs. The changes between epochs may be treated as independent, while a line fitted
    to the samples would have far too narrow an interval. The interval is never narrower than one page over the time
    of the measurement, the resolution of memory.
    """
    whole = np.arange(WARM_UP, epoch.max())  # the last one is cut off
    hours = np.diff([seconds[epoch == e].mean() / 3600 for e in whole])
    changes = np.diff([megabytes[epoch == e].mean() for e in whole]) / hours.mean()
    n = len(changes)
    half = max(student.ppf(0.975, n - 1) * changes.std(ddof=1) / np.sqrt(n), PAGE_MB / hours.sum())
    low, high = float(changes.mean() - half), float(changes.mean() + half)
    return {
        "mb_per_hour": float(changes.mean()),
        "interval": [low, high],
        "holds_zero": low <= 0 <= high,
        "epochs": len(whole),
    }


def index_memory(store: Path) -> dict[str, float]:
    """Returns the MB of an open store: its mapped columns, and anonymous memory with the order of an epoch."""
    before = anonymous(os.getpid())
    opened = Store(store)
    plan = plan_of(opened)
    plan[0]
    mapped = sum(column.nbytes for column in opened.index.values())
    return {"mapped_mb": mapped / 1e6, "anonymous_mb": (anonymous(os.getpid()) - before) / 1e6}


def plot(report: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    watched = report["watched"]
    for name, label in (("loader_mb", "loader"), ("workers_mb", f"{report['workers']} workers together")):
        rise = report["growth"][name]
        low, high = rise["interval"]
        axes.plot(
            watched["seconds"],
            watched[name],
            label=f"{label}: {rise['mb_per_hour']:+.1f} MB/h (95%: {low:+.1f} to {high:+.1f})",
        )
    ends = np.flatnonzero(np.diff(watched["epoch"])) + 1
    for i, end in enumerate(ends):
        axes.axvline(watched["seconds"][end], color="lightgrey", linewidth=0.8, label=None if i else "an epoch's end")
    axes.axvline(watched["seconds"][ends[WARM_UP - 1]], color="grey", linestyle=":", label="warm-up ends")
    axes.set(xlabel="seconds", ylabel="anonymous memory, MB", ylim=(0, None))
    axes.set_title(
        f"{report['records']:,} records, {watched['epoch'][-1] + 1} epochs, {watched['utterances'][-1]:,} read"
    )
    axes.legend()
    figure.savefig(path, dpi=120)


def soak(records: int, seconds: float, workers: int, rate: float, work: Path) -> dict[str, Any]:
    audio, store, made = work / "audio", work / "store", work / "made.json"
    figures: dict[str, Any] = json.loads(made.read_text(encoding="utf-8")) if made.exists() else {}
    if figures.get("records") != records:
        began = time.monotonic()
        make(audio, records)
        figures = {"records": records, "make_seconds": time.monotonic() - began}
        began = time.monotonic()
        prepare = [sys.executable, "-m", "jepa_speech", "prepare", "--input", str(audio), "--out", str(store)]
        subprocess.run([*prepare, "--codec", "pcm16"], check=True)
        figures["prepare_seconds"] = time.monotonic() - began
        write_json(made, figures)
    opened = Store(store)
    assert len(opened) == records, f"{store} holds {len(opened)} records"
    steps = plan_of(opened).batches_per_epoch
    report = figures | {"hours": opened.hours, "codec": opened.codec, "workers": workers, "steps_per_epoch": steps}
    report["store_mb"] = sum(opened.info["shard_bytes"]) / 1e6
    report["index"] = index_memory(store)
    places = {"middle of an epoch": steps // 2, "step 10,000,000": 10**7}
    report["restore_seconds"] = {
        f"{name}, {count} workers": restore(store, step, count)
        for name, step in places.items()
        for count in sorted({0, workers})
    }
    report["watched"] = watched = watch(store, seconds, workers, rate)
    times, epoch = np.array(watched["seconds"]), np.array(watched["epoch"])
    report["growth"] = {name: growth(times, np.array(watched[name]), epoch) for name in ("loader_mb", "workers_mb")}
    report["utterances_per_second"] = watched["utterances"][-1] / watched["seconds"][-1]
    report |= {"load_average": os.getloadavg(), "python": platform.python_version(), "cores": os.cpu_count()}
    return report


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--records", type=int, default=1_000_000)
    options.add_argument("--seconds", type=float, default=600, help="of reading")
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--rate", type=float, default=math.inf, help="utterances a second, after the warm-up")
    options.add_argument("--work", metavar="DIR", help="where files and store go, and stay (default: nowhere for long)")
    options.add_argument("--json", metavar="FILE")
    options.add_argument("--plot", metavar="FILE")
    args = options.parse_args()
    with tempfile.TemporaryDirectory() as passing:
        report = soak(args.records, args.seconds, args.workers, args.rate, Path(args.work or passing))
    for name, rise in report["growth"].items():
        print(f"{name}: {rise['mb_per_hour']:+.2f} MB/h, 95% {rise['interval'][0]:+.2f} to {rise['interval'][1]:+.2f}")
    print(f"index: {report['index']}; restore, seconds: {report['restore_seconds']}")
    if args.json:
        write_json(args.json, report)
    if args.plot:
        plot(report, Path(args.plot))


if __name__ == "__main__":
    main()
