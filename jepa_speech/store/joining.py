"""Joins several stores to one without decoding, as if their inputs had been prepared together.

Shards are hard-linked if both folders are on one file system, and copied otherwise. The new store is unfinished until
everything is written; the same call resumes after a kill.
"""

import os
import shutil
from collections.abc import Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from jepa_speech.errors import UsageError, UserError
from jepa_speech.files import replacing, sha256_arrays, temporary_name
from jepa_speech.ingest.decoder import VERSION
from jepa_speech.ingest.inputs.passed_over import together
from jepa_speech.lock import LOCK, locked
from jepa_speech.store.description import FORMAT
from jepa_speech.store.finalize import make_whole
from jepa_speech.store.index_files import index_writer
from jepa_speech.store.prepare import summary
from jepa_speech.store.store import Store, shard_path
from jepa_speech.store.unfinished import Plan, begin, find, new_work, tidy
from jepa_speech.store.writing import json_line, writing
from jepa_speech.wording import counted


def join(parts: Sequence[str | Path], out: str | Path, progress: bool = False) -> dict[str, Any]:
    """Makes the store `out` of complete stores, in their order; returns its figures. Does nothing if `out` is complete.

    Recordings are renumbered; labels and feature means are not copied. Raises UserError if a store is incomplete or
    named twice, if codecs differ, or if `out` holds something else.
    """
    stores, whole = [Store(path) for path in parts], Path(out)
    if len(stores) < 2:
        raise UsageError("joining needs at least two stores")
    for earlier, store in pairwise(stores):
        if store.codec != earlier.codec:
            raise UserError(
                f"{store.path} has codec {store.codec}, but {earlier.path} has {earlier.codec}; prepare one again"
            )
    outdated = [store.outdated() > 0 for store in stores]
    if any(outdated) and not all(outdated):
        old = stores[outdated.index(True)]
        raise UserError(
            f"{old.path}: an earlier version decoded it, which gave wrong samples of MP3 and of segments of compressed "
            f"files ({counted(old.outdated(), 'recording')} here); prepare it again"
        )
    if len({store.path.resolve() for store in stores}) < len(stores):
        raise UserError(f"{', '.join(str(store.path) for store in stores)}: the same store twice")
    find(whole)  # raises if the folder holds something else
    with writing(whole), locked(whole / LOCK, "inspect --merge"):
        identity = {"format": FORMAT, "codec": stores[0].codec, "inputs": _inputs(stores)}
        with new_work(whole) as work:
            begin(whole, work, identity, {})
        if not (whole / "store.json").is_file():
            _write(stores, whole, identity, progress)
        tidy(whole)
        return summary(whole)


def _inputs(stores: Sequence[Store]) -> str:
    """Returns a hash that identifies the store joined from these."""
    return sha256_arrays({f"{i:09}": np.array([s.info["inputs"], s.fingerprint]) for i, s in enumerate(stores)})


def _write(stores: Sequence[Store], whole: Path, identity: Plan, progress: bool) -> None:
    (whole / "shards").mkdir(exist_ok=True)
    sizes = [len(store.info["shard_bytes"]) for store in stores]
    before = np.cumsum([0, *sizes])  # shards of earlier stores
    with tqdm(total=sum(sizes), desc="join", unit=" shards", disable=not progress, mininterval=0.5) as bar:
        for store, first in zip(stores, before, strict=False):
            for shard in range(len(store.info["shard_bytes"])):
                _link_or_copy(shard_path(store.path, shard), shard_path(whole, int(first) + shard))
                bar.update()
    with replacing(whole / "records.jsonl") as records:
        rows = chain.from_iterable(store.records() for store in stores)
        records.writelines(json_line(row | {"id": i}) for i, row in enumerate(rows))
    with replacing(whole / "rejects.jsonl") as rejects:
        for store in stores:
            rejects.writelines(map(json_line, store.rejects()))
    with index_writer(whole) as append:
        for store, first in zip(stores, before, strict=False):
            append(store.index | {"shard": store.index["shard"] + np.uint32(first)})
    shards = [
        {"bytes": size, "crc": crc}
        for store in stores
        for size, crc in zip(store.info["shard_bytes"], store.info["shard_crc"], strict=True)
    ]
    decoder = 1 if any(store.outdated() for store in stores) else VERSION
    identity |= {"decoder": decoder, "rejected": sum(store.info["rejected"] for store in stores)}
    identity |= {"passed_over": together(store.info.get("passed_over", {}) for store in stores)}
    make_whole(whole, identity | {"sources": [source for store in stores for source in store.sources]}, shards)


def _link_or_copy(old: Path, new: Path) -> None:
    """Links or copies a shard atomically. Two stores may share a shard, because shards are never changed."""
    if new.exists():
        return
    temporary = temporary_name(new)
    try:
        temporary.hardlink_to(old)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(old, temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
    temporary.replace(new)
