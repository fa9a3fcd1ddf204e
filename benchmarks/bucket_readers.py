"""The clients of a bucket that benchmarks/buckets.py compares. Each runs in a process of its own, on one core.

    python benchmarks/bucket_readers.py NAME ARGUMENTS     ARGUMENTS: JSON, the keyword arguments of the function

Prints one line of JSON: the seconds of audio or the bytes that were read, the seconds by the clock (`wall`), the
processor time of all threads in seconds (`core`), and the package's `version`. Imports and opening are not timed. Peers
run without jepa_speech, in a virtual environment of their own.
"""

import io
import json
import os
import random
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

RATE = 16_000
LONGEST = 15.0  # seconds of a crop: the longest of data.buckets
ROWS = 8
SHARD = 16 << 20  # bytes
COPIES = 3
AWS = {"aws_access_key_id": "x", "aws_secret_access_key": "y", "region_name": "us-east-1"}


def timed(work: Iterator[float], unit: str) -> dict[str, float]:
    """Returns the sum of what `work` yields, and the seconds that it took. There are no processes below this one."""
    began, before = time.monotonic(), time.process_time()
    return {unit: sum(work), "wall": time.monotonic() - began, "core": time.process_time() - before}


# ---- This program --------------------------------------------------------------------------------------------------


def ours(store: str) -> dict[str, float]:
    """Reads one epoch as training does. A store in a bucket is fetched ahead unless it is in the cache."""
    from functools import partial

    from jepa_speech.batches.batch_plan import DataConfig, Plan
    from jepa_speech.batches.fetch_ahead import FetchedAhead, SharedPlan
    from jepa_speech.batches.pipeline import batches
    from jepa_speech.store.store import Store
    from jepa_speech.training.run_batches import shards_of

    opened, config = Store(store), DataConfig(store="")
    plan = Plan(opened.samples, config.buckets, config.batch_seconds, seed=0)

    def epoch() -> Iterator[float]:
        shared = SharedPlan(plan) if opened.remote else plan
        stream = batches(opened, shared, frozenset(), 0, plan.batches_per_epoch)
        if opened.remote:
            shards = partial(shards_of, opened, shared, False, (0, 1))
            stream = FetchedAhead(stream, shards, 0, plan.batches_per_epoch, config.fetch_ahead)
        with closing(stream):
            for batch in stream:
                yield float(batch["lengths"] @ batch["weight"]) / RATE

    return timed(epoch(), "audio")


def our_fetch(store: str) -> dict[str, float]:
    """Fetches all shards into an empty cache, with checksums, COPIES times."""
    from jepa_speech.cloud.cache import cache
    from jepa_speech.store.store import Store

    opened = Store(store)
    shards = opened.in_bucket(range(len(opened)))

    def copies() -> Iterator[int]:
        for _ in range(COPIES):
            for shard in shards:
                cache().fetch(shard)
                yield shard.size
            for shard in shards:
                shard.path.unlink()

    return timed(copies(), "bytes")


# ---- Peers ---------------------------------------------------------------------------------------------------------


def crop(sample: dict[str, bytes]) -> Any:
    """Decodes a random crop of a recording: float32 (S,)."""
    import soundfile

    with soundfile.SoundFile(io.BytesIO(sample["flac"])) as file:
        wanted = min(file.frames, round(LONGEST * RATE))
        file.seek(random.randint(0, file.frames - wanted))
        return file.read(wanted, dtype="float32")


def padded(waves: list[Any]) -> tuple[Any, int]:
    """Returns a zero-padded batch (B, S), and its valid samples."""
    import numpy as np

    audio = np.zeros((len(waves), max(map(len, waves))), np.float32)
    for row, wave in zip(audio, waves, strict=True):
        row[: len(wave)] = wave
    return audio, sum(map(len, waves))


def seconds(loader: Any) -> Iterator[float]:
    for _, samples in loader:
        yield samples / RATE


def litdata(url: str, cache: str, server: str) -> dict[str, float]:
    from litdata import StreamingDataLoader, StreamingDataset
    from litdata.streaming import downloader

    # 2026-11, litdata 0.2.76: its S3 client refuses http:// addresses, and no public option changes that.
    downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = True
    options = AWS | {"endpoint_url": server}
    dataset = StreamingDataset(url, cache_dir=cache, shuffle=True, storage_options=options, transform=crop)
    return timed(seconds(StreamingDataLoader(dataset, batch_size=ROWS, collate_fn=padded, num_workers=0)), "audio")


def litdata_write(recordings: str, out: str) -> dict[str, float]:
    from litdata import optimize

    inputs = sorted(str(path) for path in Path(recordings).iterdir())
    optimize(_sample, inputs, out, chunk_bytes=SHARD, num_workers=1, verbose=False)
    return {}


def mosaicml_streaming(url: str, cache: str, server: str) -> dict[str, float]:
    from streaming import StreamingDataset
    from torch.utils.data import DataLoader

    os.environ["S3_ENDPOINT_URL"] = server
    dataset = StreamingDataset(remote=url, local=cache, shuffle=True, batch_size=ROWS)

    def collated(samples: list[dict[str, bytes]]) -> tuple[Any, int]:
        return padded([crop(sample) for sample in samples])

    return timed(seconds(DataLoader(dataset, batch_size=ROWS, collate_fn=collated, num_workers=0)), "audio")


def mosaicml_streaming_write(recordings: str, out: str) -> dict[str, float]:
    from streaming import MDSWriter

    with MDSWriter(out=out, columns={"flac": "bytes"}, size_limit=SHARD) as writer:
        for path in sorted(Path(recordings).iterdir()):
            writer.write(_sample(str(path)))
    return {}


def gcsfs(names: list[str], cache: str, server: str, checksums: bool) -> dict[str, float]:
    os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"  # read by the import: it asks a service that fakes lack
    from gcsfs import GCSFileSystem

    return _copied(GCSFileSystem(token="anon", endpoint_url=server), names, cache, checksums)


def s3fs(names: list[str], cache: str, server: str, checksums: bool) -> dict[str, float]:
    from s3fs import S3FileSystem

    return _copied(S3FileSystem(key="x", secret="y", endpoint_url=server), names, cache, checksums)


def bare(names: list[str], cache: str, server: str, checksums: bool) -> dict[str, float]:
    """Copies shards from a socket to files through one buffer: the least that a client in Python does."""
    import http.client
    from urllib.parse import quote, urlsplit

    connection, buffer = http.client.HTTPConnection(urlsplit(server).netloc), memoryview(bytearray(1 << 20))
    Path(cache).mkdir(parents=True, exist_ok=True)

    def copies() -> Iterator[int]:
        for _ in range(COPIES):
            for name in names:
                connection.request("GET", f"/{quote(name)}")
                answer, size, crc = connection.getresponse(), 0, 0
                if answer.status != 200:
                    raise OSError(f"{name}: status {answer.status}")
                with Path(cache, "part").open("wb", buffering=0) as file:
                    while count := answer.readinto(buffer):
                        file.write(buffer[:count])
                        size += count
                        crc = zlib.crc32(buffer[:count], crc) if checksums else 0
                yield size

    return timed(copies(), "bytes")


def _copied(files: Any, names: list[str], folder: str, checksums: bool) -> dict[str, float]:
    files.info(names[0])  # so that it has connected
    paths = [Path(folder, str(number)) for number in range(len(names))]
    Path(folder).mkdir(parents=True, exist_ok=True)

    def copies() -> Iterator[int]:
        for _ in range(COPIES):
            for name, path in zip(names, paths, strict=True):
                files.get_file(name, str(path))
                if checksums:
                    with path.open("rb") as file:
                        crc = 0
                        while chunk := file.read(1 << 20):
                            crc = zlib.crc32(chunk, crc)
                yield path.stat().st_size
            for path in paths:
                path.unlink()

    return timed(copies(), "bytes")


def _sample(path: str) -> dict[str, bytes]:
    return {"flac": Path(path).read_bytes()}


PACKAGES = dict.fromkeys(("ours", "our_fetch", "bare"), "jepa-speech")
CLIENTS: dict[str, Callable[..., dict[str, float]]] = {
    "ours": ours,
    "our_fetch": our_fetch,
    "litdata": litdata,
    "litdata_write": litdata_write,
    "mosaicml-streaming": mosaicml_streaming,
    "mosaicml-streaming_write": mosaicml_streaming_write,
    "gcsfs": gcsfs,
    "s3fs": s3fs,
    "bare": bare,
}


if __name__ == "__main__":
    os.sched_setaffinity(0, {0})  # the servers have the other core
    name = sys.argv[1]
    result = CLIENTS[name](**json.loads(sys.argv[2]))
    print(json.dumps(result | {"version": version(PACKAGES.get(name, name.removesuffix("_write")))}), flush=True)
