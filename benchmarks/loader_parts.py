"""Processor time of the loader's parts for each second of audio, in one thread: from the batch plan to a padded batch.

    taskset -c 0 python benchmarks/loader_parts.py --flac STORE [--batches 40] [--turns 5] [--json FILE]

Each part runs once in each turn, on the same crops, so that a varying load affects all. The table has the median and
the range over turns. Other programs hardly matter, except through caches.
"""

import argparse
import io
import statistics
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import soundfile
from loader_readers import crops, plan_of, records_of

from jepa_speech.batches.pipeline import Reader
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.files import write_json
from jepa_speech.ingest.flac_crop import crop
from jepa_speech.store.store import Store


def each(made: Iterable[object]) -> None:
    """Keeps nothing, so that the memory of one is used again for the next."""
    deque(made, maxlen=0)


def parts(store: Store, batches: int) -> tuple[dict[str, Callable[[], object]], float]:
    """Returns what each part runs, and the seconds of audio that it covers."""
    plan, records = plan_of(store), records_of(store)
    items = [plan[i] for i in range(batches)]
    wanted = [one for item in items for one in crops(item, plan.samples)]
    reader = Reader(store, frozenset(), None, None, None, 0, 1)

    def libsndfile() -> None:
        for record, start, samples in wanted:
            with soundfile.SoundFile(io.BytesIO(records[record])) as file:
                file.seek(start)
                file.read(samples, dtype="float32")

    def pad() -> None:
        for item in items:
            audio = np.zeros((len(item.records), item.bucket_samples), np.float32)
            for row in audio:
                row[:] = 1.0

    return {
        "batch plan": lambda: each(plan[i] for i in range(batches)),
        "record out of a shard": lambda: each(store.record(record) for record, *_ in wanted),
        "of which CRC-32": lambda: each(zlib.crc32(records[record]) for record, *_ in wanted),
        "decoding, libsndfile": libsndfile,
        "decoding, dr_flac": lambda: each(crop(records[record], *rest) for record, *rest in wanted),
        "an array of zeros, and rows copied into it": pad,
        "all: plan to batch": lambda: each(reader(plan[i]) for i in range(batches)),
    }, sum(samples for *_, samples in wanted) / SAMPLE_RATE


def measure(store: Store, batches: int, turns: int) -> dict[str, Any]:
    """Returns for each part the microseconds of processor time per second of audio in each turn."""
    found, audio = parts(store, batches)
    times: dict[str, list[float]] = {name: [] for name in found}
    for turn in range(turns + 1):  # the first one fills caches and is not counted
        for name, run in found.items():
            began = time.thread_time()
            run()
            if turn:
                times[name].append(1e6 * (time.thread_time() - began) / audio)
    return {"audio_seconds": audio, "us_per_audio_second": times}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--flac", required=True, metavar="STORE")
    options.add_argument("--batches", type=int, default=40)
    options.add_argument("--turns", type=int, default=5)
    options.add_argument("--json", metavar="FILE")
    args = options.parse_args()
    report = measure(Store(args.flac), args.batches, args.turns)
    if args.json:
        write_json(args.json, report)
    print("| part | us per second of audio: median [range] |\n|---|---:|")
    for name, values in report["us_per_audio_second"].items():
        print(f"| {name} | {statistics.median(values):.1f} [{min(values):.1f}, {max(values):.1f}] |")


if __name__ == "__main__":
    main()
