"""Measure the cost of checksums when a checkpoint of a given size is saved and loaded.

    python benchmarks/checksums.py --gigabytes 1

Prints wall time and processor time in seconds, medians of five saves and five loads, and the share that checksums add.
The weights are random, so that they compress as little as trained ones.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jepa_speech.training import checkpoint
from jepa_speech.training.checkpoint import Checkpoints, read_weights
from jepa_speech.training.state import TrainState

ARRAYS, TIMES = 12, 5
NAMES = {"save": "checksums written", "load": "checksums compared"}


def timed(spent: dict[str, list[tuple[float, float]]], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps the function so that a call adds its wall time and processor time (s) to spent[name]."""

    def measured(*arguments: Any, **options: Any) -> Any:
        clock, processors = time.monotonic(), time.process_time()
        try:
            return function(*arguments, **options)
        finally:
            spent.setdefault(name, []).append((time.monotonic() - clock, time.process_time() - processors))

    return measured


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--gigabytes", type=float, default=1.0)
    options.add_argument("--folder", help="where to write (default: where temporary files go)")
    arguments = options.parse_args()
    random, size = np.random.default_rng(0), round(arguments.gigabytes * 1e9 / 4 / ARRAYS)
    params = {f"array{i}": random.standard_normal(size, np.float32) for i in range(ARRAYS)}
    zero = np.zeros((), np.int32)
    state, spent = TrainState(params, {}, {}, zero, zero, zero, zero), {}
    checkpoint.write_checksums = timed(spent, NAMES["save"], checkpoint.write_checksums)
    checkpoint.damage = timed(spent, NAMES["load"], checkpoint.damage)
    run = Path(tempfile.mkdtemp(dir=arguments.folder))

    def save(step: int) -> None:
        checkpoints.save(step, state)
        checkpoints.wait()

    try:
        for step in range(TIMES):
            with Checkpoints(run, keep=1) as checkpoints:
                timed(spent, "save", save)(step)
            timed(spent, "load", read_weights)(run, step)
    finally:
        shutil.rmtree(run)
    for whole, part in NAMES.items():
        for i, what in enumerate(("clock", "processors")):
            all_of_it, sums = (statistics.median(times[i] for times in spent[name]) for name in (whole, part))
            more = sums / (all_of_it - sums)
            print(f"{whole}, {what:10}: {all_of_it:6.2f} s, of which {part} {sums:5.2f} s, {more:.1%} of the rest")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
