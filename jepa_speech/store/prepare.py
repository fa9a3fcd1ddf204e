"""Writes a store of recordings, in parallel and on any number of machines; a killed run can be resumed.

The inputs are listed in STORE/work/entries.jsonl and cut into chunks (chunks.py), each of which becomes one shard.
STORE/work/plan.json has the chunks. When all are finished, the index is written, and finally store.json (finalize.py).
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import closing
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from tqdm import tqdm

from jepa_speech.arguments import Part, check_choice, check_part
from jepa_speech.errors import UsageError, UserError
from jepa_speech.files import replacing
from jepa_speech.ingest import audio
from jepa_speech.ingest.inputs.passed_over import PassedOver
from jepa_speech.ingest.lengths import check_seconds
from jepa_speech.ingest.manifest import Entry, entries, nothing_there
from jepa_speech.ingest.parallel import cores, work_through
from jepa_speech.lock import LOCK, locked
from jepa_speech.store.chunks import (
    SHARD_MB,
    check_entries,
    remove_empty,
    remove_left_overs,
    sidecar,
    spool,
    unfinished,
    write_chunk,
)
from jepa_speech.store.description import FORMAT, store_info
from jepa_speech.store.destination import LocalDestination, destination_of
from jepa_speech.store.finalize import finish
from jepa_speech.store.store import Store, checked_rows
from jepa_speech.store.unfinished import Plan, begin, find, lengths_of, new_work, read_plan, tidy, untidy
from jepa_speech.store.writing import writing
from jepa_speech.wording import counted


def prepare(
    inputs: Sequence[str | Path],
    out: str | Path,
    codec: str = "flac",
    workers: int | None = None,
    max_reject_fraction: float = 0.01,
    *,
    shard_mb: float = SHARD_MB,
    part: Part | None = None,
    root: str | Path | None = None,
    min_seconds: float = 0.0,
    max_seconds: float = 0.0,
    progress: bool = False,
) -> dict[str, Any]:
    """Makes the store `out` of all recordings in `inputs`, as `jepa_speech.prepare` describes.

    Returns its figures (see `summary`). After an error, `out` is incomplete.
    """
    check_choice("codec", codec, audio.CODECS)
    check_part(part)
    if workers is not None and workers < 1:
        raise UsageError(f"workers = {workers}: must be at least 1")
    if not 0 <= max_reject_fraction <= 1:
        raise UsageError(f"max_reject_fraction = {max_reject_fraction:g}: must be between 0 and 1")
    if not 0 < shard_mb < 1e6:
        raise UsageError(f"shard_mb = {shard_mb:g}: must be above 0 and below a million")
    check_seconds(min_seconds, max_seconds, "min_seconds, max_seconds")
    destination = destination_of(out)
    store = destination.folder
    settings = {"codec": codec, "shard_mb": float(shard_mb)}
    settings |= {"min_seconds": float(min_seconds), "max_seconds": float(max_seconds)}
    with writing(store), destination.opened(shared=bool(part)):
        find(store)  # raises if the folder holds something else
        passed = PassedOver()
        listing = entries(inputs, root, passed)
        first = next(listing, None)
        if first is None:
            raise nothing_there(inputs, passed)
        i, n = part or (0, 1)
        with locked(store / LOCK, "prepare", shared=bool(part)):
            notes = {"parts": n, "max_rejects": max_reject_fraction}
            plan = _plan(chain([first], listing), passed, store, settings, notes, progress, alone=part is None)
            if not (store / "store.json").is_file():
                destination.upload_plan()
                mine = range(i, len(plan["chunks"]), n)
                with locked(store / "work" / f".part-{i}-of-{n}.jepa-speech.lock", f"prepare, part {i}/{n}"):
                    _write_chunks(destination, plan, mine, workers or cores(), progress)
                    if part:
                        destination.upload_chunks(mine)
                if part:
                    done = sum(plan["chunks"][chunk][1] for chunk in mine)
                    which = {"store": destination.name, "part": f"{i}/{n}"}
                    return which | {"shards": len(mine), "read": done, "whole": False}
                _finish(destination, plan, max_reject_fraction, progress)
            elif count := Store(destination.readable()).outdated():
                raise UserError(
                    f"{store}: an earlier version decoded it, which gave wrong samples of MP3 and of segments of "
                    f"compressed files ({counted(count, 'recording')} here); remove it or choose another folder"
                )
            return summary(store) | {"store": destination.name} if part else _completed(destination)


def merge(out: str | Path, max_reject_fraction: float | None = None, progress: bool = False) -> dict[str, Any]:
    """Makes a complete store of parts written by `prepare`; returns its figures. Does nothing if it is complete.

    max_reject_fraction: by default that of the first part. Raises UserError naming the parts that are missing.
    """
    destination = destination_of(out)
    store = destination.folder
    with destination.opened():
        found = find(store)
        if found is None:
            raise UserError(f"{store}: no parts of a store; run `jepa-speech prepare --part i/n` first")
        if found.name == "store.json" and not untidy(store):
            return _completed(destination)
        with writing(store), locked(store / LOCK, "inspect --merge"):
            found = find(store)
            assert found is not None
            if found.name != "store.json":
                plan = read_plan(found)
                if "chunks" not in plan:
                    raise UserError(f"{store}: an unfinished join of stores; run the command that joins them again")
                sizes = destination.sizes(len(plan["chunks"]))
                if missing := unfinished(store, range(len(sizes)), sizes):
                    raise UserError(_what_is_missing(store, plan, missing, sizes))
                most = plan["max_rejects"] if max_reject_fraction is None else max_reject_fraction
                _finish(destination, plan, most, progress)
            return _completed(destination)


def _finish(destination: LocalDestination, plan: Plan, max_reject_fraction: float, progress: bool) -> None:
    try:
        sizes = destination.sizes(len(plan["chunks"]))
        finish(destination.folder, plan, max_reject_fraction, sizes, progress)
    except UserError:
        destination.upload_rejects()
        raise


def _completed(destination: LocalDestination) -> dict[str, Any]:
    """Returns the figures of a store that is complete in its folder, after uploading it."""
    figures = summary(destination.folder) | {"store": destination.name}
    destination.upload_whole()
    tidy(destination.folder)
    destination.leave()
    return figures


def summary(store: Path) -> dict[str, Any]:
    """Returns the figures of a complete store."""
    info = store_info(store)
    rejects = checked_rows(store / "rejects.jsonl", info["files_crc"]["rejects.jsonl"])
    reasons = Counter(row["reason"] for row in rejects)
    keys = ("records", "rejected", "hours", "codec", "fingerprint", "duplicates")
    return {"store": str(store), **{key: info[key] for key in keys}, "reasons": dict(reasons)} | {
        "passed_over": info.get("passed_over", {}),  # missing in stores of earlier versions
        "read": info["records"] + info["rejected"],
        "bytes": sum(info["shard_bytes"]),
        "shards": len(info["shard_bytes"]),
        "whole": True,
    }


def _plan(
    listing: Iterable[Entry],
    passed: PassedOver,
    store: Path,
    settings: Plan,
    notes: Plan,
    progress: bool,
    alone: bool,
) -> Plan:
    """Writes the list of recordings and the plan; returns the plan.

    It has "format", "inputs" (a hash), "read", "chunks" ([[byte offset, entries], ...]), and the settings and notes.
    Settings must equal those of an existing plan; notes are for `merge`. Refuses a folder that holds anything but a
    store of these inputs, complete or not. An unfinished store without recordings, because all were rejected, is
    started again if this process is `alone`.
    """
    emptied = partial(remove_empty, store) if alone else lambda plan: False
    with new_work(store) as work:
        bar = tqdm(listing, "list", unit=" files", disable=not progress, mininterval=0.5)
        with bar, replacing(work / "entries.jsonl") as file:
            digest, chunks = spool(bar, file, round(settings["shard_mb"] * (1 << 20)))
        read = sum(count for _, count in chunks)
        identity = {"format": FORMAT, "inputs": digest, **settings}
        rest = {"read": read, "chunks": chunks, "passed_over": passed.found} | notes
        return begin(store, work, identity, rest, emptied)


def _write_chunks(
    destination: LocalDestination, plan: Plan, mine: Collection[int], workers: int, progress: bool
) -> None:
    """Writes the chunks of `mine` that are not finished, in `workers` processes."""
    store = destination.folder
    (store / "shards").mkdir(exist_ok=True)
    remove_left_overs(store, mine)
    to_do = unfinished(store, mine, destination.sizes(len(plan["chunks"])))
    if to_do:
        check_entries(store, plan["inputs"])
    total, left = (sum(plan["chunks"][chunk][1] for chunk in chunks) for chunks in (mine, to_do))
    settings = plan["codec"], lengths_of(plan)
    tasks = [(store, chunk, *plan["chunks"][chunk], *settings) for chunk in to_do]
    bar = tqdm(total=total, initial=total - left, desc="prepare", unit=" files", disable=not progress, mininterval=0.5)
    with bar, closing(work_through(write_chunk, tasks, min(workers, len(tasks)))) as written:
        for more in written:
            bar.update(more)


def _what_is_missing(store: Path, plan: Plan, missing: Sequence[int], sizes: Sequence[int]) -> str:
    shards = f"{len(missing)} of {counted(len(plan['chunks']), 'shard')} not written"
    if old := sum(sidecar(store, chunk).is_file() and sizes[chunk] >= 0 for chunk in missing):
        shards += f" ({old} of them by an earlier version, which decoded MP3 and segments wrongly)"
    n = plan["parts"]
    if n == 1:
        return f"{store}: {shards}; run the same prepare command again"
    parts = ", ".join(f"{i}/{n}" for i in sorted({chunk % n for chunk in missing}))
    return f"{store}: {shards}; run the same prepare command again with --part {parts}"
