"""Writes a store from recordings: in parallel, and so that a killed run goes on where it stopped.

The inputs are listed into STORE/work/entries.jsonl and cut into chunks, each of which becomes one shard. A chunk is
finished when its shard and then its sidecar (work/part-*.jsonl) carry their final names. When all are, the index is
written, and store.json last of all. Worker processes import no jax.
"""

import errno
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from itertools import chain
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader
from tqdm import tqdm

from jepa_speech.data import audio
from jepa_speech.data.manifest import SUFFIXES, Entry, entries, spool
from jepa_speech.data.recording import recording
from jepa_speech.data.store import FORMAT, INDEX, shard_path
from jepa_speech.data.writing import json_line, replacing, shard_writer, writing
from jepa_speech.errors import UsageError, UserError
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.files import read_json, read_jsonl, write_json


def prepare(
    inputs: Sequence[str | Path],
    out: str | Path,
    codec: str = "flac",
    workers: int | None = None,
    max_reject_fraction: float = 0.01,
) -> dict[str, Any]:
    """Makes the store `out` of all recordings in `inputs` (folders, JSON-lines manifests); returns its figures.

    The same call again goes on after a kill, and does nothing if the store is whole. `workers`: processes, by
    default one per core. Raises UserError if there is nothing to store, more than `max_reject_fraction` of the
    recordings are rejected, `out` holds something else, or the disk is full; `out` is then no whole store.
    """
    if codec not in audio.CODECS:
        raise UsageError(f"codec {codec!r}: choose {' or '.join(audio.CODECS)}")
    if workers is not None and workers < 1:
        raise UsageError(f"workers {workers}: at least 1")
    if not 0 <= max_reject_fraction <= 1:
        raise UsageError(f"max reject fraction {max_reject_fraction}: between 0 and 1")
    store = Path(out)
    with writing(store):
        plan = _plan(inputs, store, codec)
        if (store / "store.json").is_file():
            return _summary(store)
        _write_chunks(store, plan, workers or _cores())
        _finish(store, plan, max_reject_fraction)
        return _summary(store)


def _cores() -> int:
    # Of this process, where the system says: a batch job may own only some of the machine's.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _summary(store: Path) -> dict[str, Any]:
    shutil.rmtree(store / "work", ignore_errors=True)  # only in the way from now on
    info = read_json(store / "store.json")
    reasons = Counter(row["reason"] for row in read_jsonl(store / "rejects.jsonl"))
    keys = ("records", "rejected", "hours", "codec", "fingerprint")
    return {"store": str(store), **{key: info[key] for key in keys}, "reasons": dict(reasons)} | {
        "read": info["records"] + info["rejected"],
        "bytes": sum(info["shard_bytes"]),
    }


# ---- what is to be done -------------------------------------------------------------------------------------------


def _plan(inputs: Sequence[str | Path], store: Path, codec: str) -> dict[str, Any]:
    """Lists the inputs; returns {"format", "inputs": hash, "codec", "read", "chunks": [[byte offset, entries], ...]}.

    Refuses a folder that holds anything else than a store, whole or not, of just these inputs.
    """
    work, whole = store / "work", (store / "store.json").is_file()
    known = store / "store.json" if whole else work / "plan.json"
    if not known.is_file() and store.exists():
        strange = sorted(path.name for path in store.iterdir() if path != work)
        if strange:
            raise UserError(f"{store}: holds {strange[0]}, so it is no store; choose a new folder for --out")
    listing = entries(inputs)  # raises here, before anything is written, if an input is not there
    first = next(listing, None)
    if first is None:
        raise UserError(f"{', '.join(map(str, inputs))}: no recordings there (looked for {' '.join(SUFFIXES)})")
    work.mkdir(parents=True, exist_ok=True)
    bar = tqdm(chain([first], listing), "list", unit=" files", disable=None, mininterval=0.5)
    with bar, replacing(work / "listed.jsonl") as file:
        digest, chunks = spool(bar, file)
    plan = {"format": FORMAT, "inputs": digest, "codec": codec}
    if known.is_file():
        before = read_json(known)
        differs = [key for key, value in plan.items() if before.get(key) != value]
        if whole or differs:
            shutil.rmtree(work) if whole else (work / "listed.jsonl").unlink()
        if differs:
            what = {"inputs": "other inputs, or from these before some changed"}.get(
                differs[0], f"another {differs[0]}"
            )
            raise UserError(f"{store}: was prepared from {what}; remove it or choose another folder for --out")
        return before
    (work / "listed.jsonl").replace(work / "entries.jsonl")
    plan |= {"read": sum(count for _, count in chunks), "chunks": chunks}
    write_json(work / "plan.json", plan)
    return plan


# ---- chunks: one shard each ---------------------------------------------------------------------------------------


def _sidecar(store: Path, chunk: int) -> Path:
    return store / "work" / f"part-{chunk:05d}.jsonl"


def _write_chunks(store: Path, plan: dict[str, Any], workers: int) -> None:
    """Writes the chunks that are not finished yet, by `workers` processes (1: in this one)."""
    (store / "shards").mkdir(exist_ok=True)
    for left_over in store.rglob("*.tmp"):
        left_over.unlink()
    counts = [count for _, count in plan["chunks"]]
    finished = [_sidecar(store, chunk).is_file() and shard_path(store, chunk).is_file() for chunk in range(len(counts))]
    to_do = [chunk for chunk, is_finished in enumerate(finished) if not is_finished]
    done = plan["read"] - sum(counts[chunk] for chunk in to_do)
    tasks = [(store, chunk, *plan["chunks"][chunk], plan["codec"]) for chunk in to_do]
    bar = tqdm(total=plan["read"], initial=done, desc="prepare", unit=" files", disable=None, mininterval=0.5)
    with bar, closing(_work_through(tasks, min(workers, len(tasks)))) as progress:
        for more in progress:
            bar.update(more)


def _work_through(tasks: list[tuple], workers: int) -> Iterator[int]:
    """Writes one chunk per task; yields again and again how many more recordings are done."""
    if workers <= 1:
        for task in tasks:
            for _ in _write_chunk(*task):
                yield 1
        return
    context = multiprocessing.get_context("spawn")  # fork would copy the threads of whoever calls
    stop, done, told = context.Event(), context.Value("q", 0), 0
    with ProcessPoolExecutor(workers, context, _start_worker, (stop, done)) as pool:
        pending = {pool.submit(_worker_chunk, *task) for task in tasks}
        try:
            while pending:
                finished, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()  # raises what the worker raised
                before, told = told, done.value
                yield told - before
        except BrokenProcessPool as error:
            raise UserError("a worker died (out of memory?); run the same command with fewer --workers") from error
        finally:
            stop.set()  # after an error or Ctrl-C: running chunks break off, the rest never start
            pool.shutdown(cancel_futures=True)


def _start_worker(stop: Event, done: Synchronized) -> None:
    _worker_chunk.stop, _worker_chunk.done = stop, done  # they reach a process only when it starts
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which sets `stop`
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _worker_chunk(*task: Any) -> None:
    for _ in _write_chunk(*task):
        with _worker_chunk.done.get_lock():
            _worker_chunk.done.value += 1
        if _worker_chunk.stop.is_set():
            raise UserError("stopped; run the same command again to go on")


def _die_with_parent() -> None:
    multiprocessing.parent_process().join()  # a killed parent cannot tell its workers
    os._exit(1)


def _write_chunk(store: Path, chunk: int, offset: int, count: int, codec: str) -> Iterator[None]:
    """Decodes `count` entries, writes their shard, then their sidecar; yields after each entry."""
    shard, rows, stored = shard_path(store, chunk), [], 0
    temporary = shard.with_suffix(f".{os.getpid()}.tmp")
    with writing(store), (store / "work" / "entries.jsonl").open("rb") as file:
        file.seek(offset)
        with shard_writer(temporary) as writer:
            for _ in range(count):
                row, record = recording(Entry(**json.loads(file.readline())), codec)
                if record is not None:
                    row["position"] = stored
                    stored += 1
                    writer.write(record)
                rows.append(row)
                yield
        if ArrayRecordReader(str(temporary)).num_records() != stored:
            raise OSError(errno.EIO, "a shard reads back shorter than it was written")
        temporary.replace(shard)
        with replacing(_sidecar(store, chunk)) as sidecar:
            sidecar.writelines(map(json_line, rows))


# ---- the end: index, records, rejects, store.json -----------------------------------------------------------------


def _finish(store: Path, plan: dict[str, Any], max_reject_fraction: float) -> None:
    rejects, first = Counter(), None
    digest = hashlib.sha256()
    index: dict[str, list[np.ndarray]] = {name: [] for name in INDEX}
    with replacing(store / "records.jsonl") as records, replacing(store / "rejects.jsonl") as rejected:
        number = 0
        for chunk in range(len(plan["chunks"])):
            columns: dict[str, list] = {name: [] for name in INDEX}
            for row in read_jsonl(_sidecar(store, chunk)):
                if "reason" in row:
                    first = first or row
                    rejects[row["reason"]] += 1
                    rejected.write(json_line(row))
                    continue
                records.write(json_line({"id": number, **row["record"]}))
                digest.update(bytes.fromhex(row["digest"]))
                number += 1
                for name in INDEX:
                    columns[name].append(chunk if name == "shard" else row[name])
            for name, kind in INDEX.items():
                index[name].append(np.array(columns[name], kind))
    count, read = rejects.total(), plan["read"]
    if not number or count > max_reject_fraction * read:
        remedy = "mend the inputs" + (" or raise --max-reject-fraction" if number else "")
        raise UserError(
            f"{count} of {read} recordings were rejected (first: {first['source'] or first['line']}, "
            f"{first['reason']}: {first['detail']}); see {store / 'rejects.jsonl'}, then {remedy}"
        )
    (store / "index").mkdir(exist_ok=True)
    arrays = {name: np.concatenate(columns) for name, columns in index.items()}
    for name, array in arrays.items():
        with replacing(store / "index" / f"{name}.npy") as file:
            np.save(file, array, allow_pickle=False)
    info = {
        "format": FORMAT,
        "records": number,
        "rejected": count,
        "hours": float(arrays["samples"].sum() / SAMPLE_RATE / 3600),
        "codec": plan["codec"],
        "sample_rate": SAMPLE_RATE,
        "fingerprint": digest.hexdigest(),
        "inputs": plan["inputs"],
        "shard_bytes": [shard_path(store, chunk).stat().st_size for chunk in range(len(plan["chunks"]))],
    }
    write_json(store / "store.json", info)
