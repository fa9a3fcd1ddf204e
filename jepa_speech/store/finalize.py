"""Completes a store: writes index, records, rejects, duplicates, and finally store.json."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from jepa_speech import ownership
from jepa_speech.errors import UserError
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.files import read_jsonl, replacing, write_json
from jepa_speech.ingest.decoder import VERSION
from jepa_speech.ingest.fixes import FIXES
from jepa_speech.store.checksums import DIGEST_BYTES, file_crc, fingerprint, sealed
from jepa_speech.store.chunks import sidecar
from jepa_speech.store.description import FILES, FORMAT, INDEX
from jepa_speech.store.index_files import Index, index_writer, written_index
from jepa_speech.store.store import shard_path
from jepa_speech.store.unfinished import LATER, lengths_of
from jepa_speech.store.writing import json_line
from jepa_speech.wording import counted


def finish(
    store: Path, plan: dict[str, Any], max_reject_fraction: float, sizes: Sequence[int], progress: bool = False
) -> None:
    """Makes a complete store of finished chunks. Raises UserError if too many recordings were rejected.

    sizes: of the shards, in bytes.
    """
    # Rejects by a requested length are no sign of bad inputs. The message names one only if there are no others.
    rejects: Counter[str] = Counter()
    bad, first_bad, first, number, shards = 0, None, None, 0, []
    lengths = lengths_of(plan)
    chunks = tqdm(range(len(plan["chunks"])), "index", unit=" shards", disable=not progress, mininterval=0.5)
    with (
        replacing(store / "records.jsonl") as records,
        replacing(store / "rejects.jsonl") as rejected,
        index_writer(store) as append,
    ):
        for chunk in chunks:
            stored = []
            for row in read_jsonl(sidecar(store, chunk)):
                if "shard" in row:
                    _check_size(shard_path(store, chunk), sizes[chunk], row["shard"]["bytes"])
                    shards.append(row["shard"])
                elif "reason" in row:
                    first = first or row
                    if not lengths.asked_for(row["reason"]):
                        first_bad, bad = first_bad or row, bad + 1
                    rejects[row["reason"]] += 1
                    rejected.write(json_line(row))
                else:
                    records.write(json_line({"id": number, **row["record"]}))
                    number += 1
                    stored.append(row)
            append(_columns(stored, chunk))
    count, read = rejects.total(), plan["read"]
    passed_over = plan.get("passed_over", {})  # missing in plans of earlier versions
    if not number or bad > max_reject_fraction * read:
        first = first_bad or first
        others = "; or accept them with a larger max_reject_fraction" if number else ""
        assert first is not None  # at least one recording was rejected
        line = ":".join(str(first[key]) for key in ("manifest", "line") if first.get(key))
        where = f"{line} {first['source']}".strip()
        raise UserError(
            f"{bad if number else count} of {counted(read, 'recording')} rejected "
            f"(first: {where}, {first['reason']}: {first['detail']}; {FIXES[first['reason']]}); "
            f"{store / 'rejects.jsonl'} lists all{others}",
            {"store": str(store), "read": read, "rejected": count, "reasons": dict(rejects), "whole": False}
            | {"passed_over": passed_over},
        )
    identity = {"codec": plan["codec"], "shard_mb": plan["shard_mb"], "inputs": plan["inputs"], "decoder": VERSION}
    identity |= {name: (LATER | plan)[name] for name in LATER}
    make_whole(store, identity | {"rejected": count, "passed_over": passed_over}, shards)


def _check_size(shard: Path, found: int, written: int) -> None:
    if found != written:
        raise UserError(
            f"{shard}: has {found} bytes, but {written} were written; remove it and run the same prepare command again"
        )


def _columns(rows: Sequence[dict[str, Any]], chunk: int) -> Index:
    """Returns the rows of the index for the recordings of one chunk."""
    values: dict[str, Any] = {name: [row[name] for row in rows] for name in INDEX if name not in ("shard", "digest")}
    values["shard"] = np.full(len(rows), chunk)
    digests = b"".join(bytes.fromhex(row["digest"])[:DIGEST_BYTES] for row in rows)
    values["digest"] = np.frombuffer(digests, np.uint8).reshape(-1, DIGEST_BYTES)
    return {name: np.asarray(values[name], kind) for name, (kind, _) in INDEX.items()}


def make_whole(store: Path, identity: dict[str, Any], shards: Sequence[dict[str, int]]) -> None:
    """Writes duplicates.jsonl, then store.json, which makes the store complete. All other files must exist.

    identity: fields of store.json beside the figures. shards: bytes and CRC-32 of every shard.
    """
    index, surplus = written_index(store), 0
    with replacing(store / "duplicates.jsonl") as file:
        for ids in duplicates(index["digest"]):
            surplus += len(ids) - 1
            file.write(json_line({"ids": ids}))
    for folder in (store, store / "shards", store / "index"):
        ownership.remove_temporaries(folder)
    info = {
        "format": FORMAT,
        "records": len(index["samples"]),
        "hours": float(index["samples"].sum() / SAMPLE_RATE / 3600),
        "sample_rate": SAMPLE_RATE,
        "fingerprint": fingerprint(index["digest"]),
        "duplicates": surplus,
        **identity,
        "files_crc": {name: file_crc(store / name) for name in FILES},
        "shard_bytes": [shard["bytes"] for shard in shards],
        "shard_crc": [shard["crc"] for shard in shards],
    }
    write_json(store / "store.json", sealed(info))


def duplicates(digest: np.ndarray, at_a_time: int = 1 << 20) -> list[list[int]]:
    """Returns the ids of recordings with the same samples, one list per group; `digest` (N, 16) uint8.

    To save memory, sorts about `at_a_time` recordings at a time, selected by the first byte of their hashes.
    """
    halves, groups = digest.view(np.uint64), []  # (N, 2)
    parts = min(1 + len(digest) // at_a_time, 255)
    for part in range(parts):
        ids = np.flatnonzero(digest[:, 0] % np.uint8(parts) == part)
        mine = halves[ids]
        order = np.lexsort((mine[:, 1], mine[:, 0]))  # stable: ids rise within a group
        ids, mine = ids[order], mine[order]
        ends = np.flatnonzero(np.r_[True, (mine[1:] != mine[:-1]).any(axis=1), True])
        several = np.flatnonzero(np.diff(ends) > 1)
        groups += [ids[ends[group] : ends[group + 1]].tolist() for group in several]
    return sorted(groups)
