"""Measure a store alone: opening one of many shards, cost of a checksum, speed of verification, damage that is noticed.

    python benchmarks/store.py --store STORE --json benchmarks/store.json

STORE is read, and copied before the copy is damaged. Times are medians over turns. The programs that are compared run
next to each other in every turn.
"""

import argparse
import shutil
import statistics
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jepa_speech.errors import UserError
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.files import write_json
from jepa_speech.ingest import audio
from jepa_speech.store.checksums import file_crc
from jepa_speech.store.finalize import make_whole
from jepa_speech.store.index_files import index_writer
from jepa_speech.store.inspection import verify
from jepa_speech.store.store import Store, shard_path
from jepa_speech.store.writing import shard_writer

PER_SHARD = 125
TURNS = 5


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def many_shards(folder: Path, shards: int) -> Store:
    """Makes a store of one shard under many names, to measure opening a store of many shards."""
    (folder / "shards").mkdir(parents=True)
    first = shard_path(folder, 0)
    records = [audio.encode(np.full(400, i, "<i2"), "pcm16") for i in range(PER_SHARD)]
    with shard_writer(first) as writer:
        for record in records:
            writer.write(record)
    for shard in range(1, shards):
        shard_path(folder, shard).hardlink_to(first)
    for name in ("records.jsonl", "rejects.jsonl"):
        (folder / name).touch()
    random = np.random.default_rng(0)
    with index_writer(folder) as append:
        for shard in range(shards):
            same = {"shard": shard, "samples": 400, "level": 0.1}
            append(
                {name: np.full(PER_SHARD, value) for name, value in same.items()}
                | {"position": np.arange(PER_SHARD), "crc": np.array([zlib.crc32(record) for record in records])}
                | {"digest": random.integers(0, 256, (PER_SHARD, 16))}
            )
    whole = {"bytes": first.stat().st_size, "crc": file_crc(first)}
    make_whole(folder, {"codec": "pcm16", "inputs": "", "rejected": 0}, [whole] * shards)
    return Store(folder)


def cost_of_checking(store: Store, crop_seconds: float, count: int) -> dict[str, float]:
    """Returns ms per crop, by `Store.read` and without the CRC."""
    random = np.random.default_rng(0)
    wanted = [
        (int(i), int(random.integers(store.samples[i] - size + 1)), size)
        for i in random.integers(len(store), size=count)
        for size in [min(int(store.samples[i]), round(crop_seconds * SAMPLE_RATE))]
    ]
    shard, position = store.index["shard"], store.index["position"]

    def unchecked() -> None:
        for i, start, size in wanted:
            record = store._reader(int(shard[i])).read([int(position[i])])[0]
            audio.crop(record, store.codec, start, size)

    def checked() -> None:
        for crop in wanted:
            store.read(*crop)

    unchecked()  # fills the system's cache
    turns = [(seconds(checked), seconds(unchecked)) for _ in range(TURNS)]
    names = ("checked", "unchecked")
    return {
        f"{name}_ms": 1e3 * statistics.median(t) / count
        for name, t in zip(names, zip(*turns, strict=True), strict=True)
    }


def verified(store: Store) -> dict[str, float]:
    """Returns GB/s of verified shards, read from the system's cache."""
    size = sum(store.info["shard_bytes"]) / 1e9
    return {
        name: size / statistics.median(seconds(lambda decode=decode: verify(store, decode)) for _ in range(turns))
        for name, decode, turns in (("crc_gb_s", False, TURNS), ("decode_gb_s", True, 1))
    }


def noticed(store: Store, folder: Path, trials: int) -> dict[str, int]:
    """Truncates random shards, then flips random bits; returns how many each check detects."""
    shutil.copytree(store.path, folder)
    random, found = np.random.default_rng(0), Counter(trials=trials)
    size = np.array(store.info["shard_bytes"])
    for trial in range(2 * trials):
        number = int(random.choice(len(size), p=size / size.sum()))
        path = shard_path(folder, number)
        raw = bytearray(shard_path(store.path, number).read_bytes())
        if trial < trials:
            path.write_bytes(raw[: random.integers(len(raw))])
            try:
                Store(folder)
            except UserError as error:
                found["truncations_named_at_opening"] += path.name in str(error)
        else:
            raw[random.integers(len(raw))] ^= 1 << int(random.integers(8))
            path.write_bytes(raw)
            damage = verify(Store(folder))
            found["flips_named_by_verify"] += {row["shard"] for row in damage} == {path.name}
            found["flips_that_hit_a_recording"] += any(row["id"] is not None for row in damage)
        found["read_as_good"] += wrong_samples(store, Store(folder, damaged=True), number)
        shutil.copyfile(shard_path(store.path, number), path)
    return dict(found)


def wrong_samples(sound: Store, damaged: Store, shard: int) -> int:
    """Returns the number of recordings of a shard that are read without an error and differ from those stored."""
    wrong = 0
    for i in np.flatnonzero(sound.index["shard"] == shard).tolist():
        try:
            wrong += damaged.record(i) != sound.record(i)
        except UserError:
            continue
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True)
    parser.add_argument("--shards", type=int, default=8000)
    parser.add_argument("--crop-seconds", type=float, default=2.0)
    parser.add_argument("--crops", type=int, default=400)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    store = Store(options.store)
    with tempfile.TemporaryDirectory() as work:
        many = many_shards(Path(work, "many"), options.shards)
        results = {
            "open": {
                "shards": options.shards,
                "records": len(many),
                "seconds": statistics.median(seconds(lambda: Store(many.path)) for _ in range(TURNS)),
            },
            "read": {"codec": store.codec, **cost_of_checking(store, options.crop_seconds, options.crops)},
            "verify": verified(store),
            "damage": noticed(store, Path(work, "damaged"), options.trials),
        }
    for name, figures in results.items():
        print(
            f"{name:<8}",
            ", ".join(
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in figures.items()
            ),
        )
    if options.json:
        write_json(options.json, results)


if __name__ == "__main__":
    main()
