"""`jepa-speech bench data`: the loader alone, without a training that it would wait for."""

import argparse
import os
import time
from contextlib import closing
from typing import Any

from jepa_speech.batches.batch_plan import DataConfig, Plan
from jepa_speech.batches.pipeline import Batch, batches
from jepa_speech.errors import UsageError
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.memory import proportional
from jepa_speech.store.store import Store
from jepa_speech.wording import counted, duration

HELP = "read batches of a store as training does, as fast as they come"
EXAMPLE = "jepa-speech bench data STORE --workers 0 1 2 --seconds 10"
ENDLESS = 2**40  # batches


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", metavar="STORE", help="folder written by `jepa-speech prepare`")
    parser.add_argument(
        "--workers",
        type=int,
        nargs="+",
        default=[0, 1, 2],
        metavar="N",
        help="reading processes, one measurement each; 0: two threads of this one (default: 0 1 2)",
    )
    parser.add_argument("--seconds", type=float, default=10, metavar="S", help="of each measurement (default: 10)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    if not options.seconds > 0 or min(options.workers) < 0:
        raise UsageError("--seconds must be above 0, --workers at least 0")
    store = Store(options.store)
    held = f"{counted(len(store), 'recording')}, {duration(store.hours)}, {store.codec}"
    print(f"{store.path}: {held}; batches as base.py has them")
    print("workers  utterances/s  audio-h/h  MB/s of store  memory MB")
    runs = []
    for workers in options.workers:
        found = measure(store, workers, options.seconds)
        print(
            f"{workers:7d}  {found['utterances_per_second']:12.0f}  {found['audio_hours_per_hour']:9.0f}"
            f"  {found['mb_per_second']:13.1f}  {found['pss_mb']:9.0f}",
            flush=True,
        )
        runs.append(found)
    machine = {"cores": os.cpu_count(), "load_average": list(os.getloadavg())}
    return {"store": str(store.path), "codec": store.codec, "hours": store.hours, "runs": runs} | machine


def measure(store: Store, workers: int, seconds: float) -> dict[str, float]:
    """Rates from the first batch on, for `seconds` or until the next one comes; memory is the largest that was seen.

    Memory: proportional set size of this process and the readers, 0 where the system does not tell. MB/s: the records'
    mean size for each utterance, since a record is read whole, whatever of it is decoded.
    """
    data = DataConfig(store="")
    plan = Plan(store.samples, data.buckets, data.batch_seconds, seed=0)
    record_mb = sum(store.info["shard_bytes"]) / len(store) / 1e6
    utterances = samples = memory = looks = 0
    asked = time.monotonic()
    with closing(batches(store, plan, frozenset(), 0, ENDLESS, workers=workers)) as stream:
        counts(next(stream))
        began = time.monotonic()
        while (now := time.monotonic() - began) < seconds:
            found = counts(next(stream))
            utterances, samples = utterances + found[0], samples + found[1]
            if now >= looks * seconds / 5:  # looking costs some milliseconds
                looks += 1
                memory = max(memory, proportional(os.getpid()))
        took = time.monotonic() - began
    return {
        "workers": workers,
        "first_batch_seconds": began - asked,
        "seconds": took,
        "utterances_per_second": utterances / took,
        "audio_hours_per_hour": samples / SAMPLE_RATE / took,
        "mb_per_second": utterances * record_mb / took,
        "pss_mb": memory / 1e6,
    }


def counts(batch: Batch) -> tuple[int, int]:
    """Returns the utterances of a batch and their samples.

    Nothing refers to the batch after this function. Its arrays are in shared memory, which a thread of grain frees
    after the last reference; memory that is held until the process exits is reported as leaked.
    """
    return int(batch["weight"].sum()), int(batch["lengths"] @ batch["weight"])
