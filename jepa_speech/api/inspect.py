"""`jepa_speech.inspect`: what a store holds and whether it is sound; parts or complete stores joined."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from jepa_speech.api.recognised import other_than_a_store
from jepa_speech.arguments import check_choice
from jepa_speech.cloud.arguments import takes_buckets
from jepa_speech.errors import UserError
from jepa_speech.labelling.parts import merge_label_parts
from jepa_speech.local_paths import bucket_url, takes_local_paths
from jepa_speech.store.inspection import describe
from jepa_speech.store.inspection import verify as damage_of
from jepa_speech.store.joining import join
from jepa_speech.store.prepare import merge
from jepa_speech.store.store import Store

DESCRIBED = ("index/", "records.jsonl", "rejects.jsonl")  # what a description is read from


@takes_buckets("store")
def inspect(
    store: str | Path, *, verify: Literal["crc", "decode"] | None = None, progress: bool = False
) -> dict[str, Any]:
    """Describe a store, and verify it on request.

    Args:
        verify: "crc" compares every byte with its checksum; "decode" also compares all samples with their hash.
        progress: show bars on stderr.

    Returns a dict: `store` (path), `records`, `silent`, `duplicates`, `rejected` and `outdated` (numbers of
    recordings), `hours`, `codec`, `decoder` (version), `fingerprint`, `bytes`, `shards` (number and sizes in bytes),
    `seconds` and `level_db` (quantiles over recordings, in s and dB), `histogram` of durations, `suffixes` and `rates`
    (recordings by suffix and by Hz), `sources`, `fields` (recordings by label), `reasons` (rejects by reason),
    `passed_over`, `labels` (names of label sets). With `verify` also `damage`: a list of {"shard" or "file": path,
    "id": recording or None, "what": one line}, empty if the store is sound. If the index is damaged, only `store` and
    `damage`, because the contents are unknown.

    Raises UserError if there is no complete store, and UsageError if `verify` is another word.
    """
    check_choice("verify", verify, (None, "crc", "decode"))
    _check_a_store(store)
    opened = Store(store, damaged=verify is not None)
    if verify is None:
        return describe(opened, progress)
    total = sum(opened.info["shard_bytes"])
    with tqdm(total=total, desc="verify", unit="B", unit_scale=True, disable=not progress, mininterval=0.5) as bar:
        damage = damage_of(opened, verify == "decode", bar.update)
    unknown = any(row.get("file", "").startswith(DESCRIBED) for row in damage)
    return ({"store": opened.name} if unknown else describe(opened, progress)) | {"damage": damage}


@takes_buckets("store")
def merge_parts(
    store: str | Path, *, max_reject_fraction: float | None = None, progress: bool = False
) -> dict[str, Any]:
    """Make a complete store of the parts that `prepare` wrote, and label sets of those that `label` wrote.

    max_reject_fraction: if a larger share of the recordings was unusable, the call fails; by default that given to
    `prepare`. progress: show bars on stderr.

    Returns what `prepare` does, without `fields`, and `labels`: the names of the label sets that are now complete.
    Raises UserError, naming the parts that are missing.
    """
    _check_a_store(store)
    results = merge(store, max_reject_fraction, progress)
    return results | {"labels": [path.name for path in merge_label_parts(Store(store))]}


@takes_local_paths
def join_stores(stores: Sequence[str | Path], out: str | Path, *, progress: bool = False) -> dict[str, Any]:
    """Make the store `out` of several complete stores, as if their inputs had been prepared together.

    Shards are hard links where the file system allows it. Labels and feature means stay behind. After a kill, the
    same call resumes; it does nothing if the store is complete. progress: show bars on stderr.

    Returns what `prepare` does, without `fields`. Raises UsageError for fewer than two stores, UserError if a store is
    incomplete, two are the same, their codecs differ, or `out` holds something else.
    """
    for store in stores:
        _check_a_store(store)
    return join(stores, out, progress)


def _check_a_store(path: str | Path) -> None:
    if not bucket_url(str(path)) and (other := other_than_a_store(Path(path))):
        raise UserError(f"{path}: not a store but {other}")
