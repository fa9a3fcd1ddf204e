"""Figures of a store, and detection of damage."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from jepa_speech import checked
from jepa_speech.cloud.objects import Unreachable
from jepa_speech.errors import UserError
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.files import read_object
from jepa_speech.ingest.inputs.entry import NAMES, STORE_KEYS
from jepa_speech.ingest.parallel import cores
from jepa_speech.store.checksums import content_hash, file_crc
from jepa_speech.store.feature_means import load_means
from jepa_speech.store.labels import Labels, labels_path
from jepa_speech.store.store import Store
from jepa_speech.store.store_files import shard_name

EDGES = (0, 1, 2, 5, 10, 15, 20, 30, 60, 300, 3600, float("inf"))  # bins of the histogram of durations, s
Damage = dict[str, Any]  # {"shard" or "file": path, "id": recording or None, "what": one line}


def describe(store: Store, progress: bool = False) -> dict[str, Any]:
    """Returns the figures of a store: sizes, durations, levels, sources, rejects, duplicates, labels."""
    store.files.fetch("labels/*/meta.json")
    seconds = store.samples / SAMPLE_RATE
    counts, _ = np.histogram(seconds, EDGES)
    sums, _ = np.histogram(seconds, EDGES, weights=seconds)
    sizes = store.info["shard_bytes"]
    suffixes: Counter[str] = Counter()
    rates: Counter[str] = Counter()
    fields: Counter[str] = Counter()
    for row in _rows(store, progress):
        suffixes[Path(row["source"]).suffix.lower() or "none"] += 1
        if "rate" in row:
            rates[str(row["rate"])] += 1
        fields.update(row.keys() - STORE_KEYS)
    return {
        "store": store.name,
        "records": len(store),
        "hours": store.hours,
        "codec": store.codec,
        "decoder": store.info.get("decoder", 1),
        "outdated": store.outdated(),
        "fingerprint": store.fingerprint,
        "bytes": sum(sizes),
        "shards": {
            "number": len(sizes),
            "smallest": min(sizes),
            "median": int(np.median(sizes)),
            "largest": max(sizes),
        },
        "seconds": _quantiles(seconds),
        "histogram": [
            {"from": low, "to": high if np.isfinite(high) else None, "records": int(count), "hours": total / 3600}
            for low, high, count, total in zip(EDGES, EDGES[1:], counts.tolist(), sums.tolist(), strict=False)
        ],
        "level_db": _quantiles(20 * np.log10(store.level[store.level < 1].astype(float))),
        "silent": int((store.level == 1).sum()),
        "suffixes": dict(suffixes.most_common()),
        "rates": dict(rates.most_common()),
        "sources": store.sources,
        "fields": _sorted(fields),
        "duplicates": store.info["duplicates"],
        "rejected": store.info["rejected"],
        "passed_over": store.info.get("passed_over", {}),
        "reasons": dict(Counter(row["reason"] for row in store.rejects()).most_common()),
        "labels": sorted(meta.parent.name for meta in (store.path / "labels").glob("[!.]*/meta.json")),
    }


def fields_of(store: Store, progress: bool = False) -> dict[str, int]:
    """Returns the number of recordings with each label (text, speaker, ...), the most frequent first."""
    fields: Counter[str] = Counter()
    for row in _rows(store, progress):
        fields.update(row.keys() - STORE_KEYS)
    return _sorted(fields)


def _rows(store: Store, progress: bool) -> Iterator[dict[str, Any]]:
    return tqdm(store.records(), "read", len(store), unit=" rows", disable=not progress, mininterval=0.5, leave=False)


def _sorted(fields: Counter) -> dict[str, int]:
    return dict(sorted(fields.items(), key=lambda item: (-item[1], item[0] not in NAMES, item[0])))


def _quantiles(values: np.ndarray) -> dict[str, float]:
    names = {"least": 0, "5%": 0.05, "median": 0.5, "95%": 0.95, "most": 1}
    return dict(zip(names, np.quantile(values, list(names.values())).tolist(), strict=True)) if len(values) else {}


def verify(store: Store, decode: bool = False, advance: Callable[[int], Any] = lambda _: None) -> list[Damage]:
    """Returns the damage of a store: index files, shards, recordings, labels; empty if there is none.

    Every byte of the store, its labels and its feature means is compared with a CRC-32; `decode` also compares the hash
    of every recording's samples. Labels and feature means of earlier versions have no CRC-32; all of them are read.
    `advance` is called with the bytes of each finished shard. `store` may be opened with `damaged=True`. If its index
    is damaged, shards are checked as a whole, because the positions of recordings are unknown.
    """
    for name in store.info["files_crc"]:
        store.files.fetch(name)
    damage = [
        {"file": name, "id": None, "what": what}
        for name, crc in store.info["files_crc"].items()
        if (what := _file_damage(store.path / name, crc))
    ]
    index = any(row["file"].startswith("index/") for row in damage)
    order = np.argsort(store.index["shard"], kind="stable")
    shards = range(len(store.info["shard_bytes"]))
    first = np.searchsorted(store.index["shard"][order], [*shards, len(shards)])

    def check(shard: int) -> list[Damage]:
        ids = order[:0] if index else order[first[shard] : first[shard + 1]]
        return list(_shard_damage(store, shard, ids, decode))

    with ThreadPoolExecutor(cores()) as pool:
        for shard, found in enumerate(pool.map(check, shards)):
            damage += found
            advance(store.info["shard_bytes"][shard])
    return damage if index else damage + list(_derived_damage(store))


def _derived_damage(store: Store) -> Iterator[Damage]:
    """Yields the damage in labels and feature means."""
    store.files.fetch("labels/*/meta.json")
    for folder in sorted((store.path / "labels").glob("[!.]*/")):
        try:
            anchor = checked.field(read_object(folder / "meta.json"), "anchor", str, str(folder / "meta.json"))
            if labels_path(store, anchor) != folder:
                raise UserError(f"{folder / 'meta.json'}: labels of anchor {anchor[:12]}, in a wrong folder")
            what = Labels(store, anchor).damage()
        except UserError as error:
            what = str(error)
        if what:
            yield {"file": str(folder.relative_to(store.path)), "id": None, "what": what}
    store.files.fetch("feature_means/*.npy")
    for path in sorted((store.path / "feature_means").glob("[!.]*.npy")):
        try:
            load_means(store, path.stem)
        except UserError as error:
            yield {"file": str(path.relative_to(store.path)), "id": None, "what": str(error)}


def _file_damage(path: Path, crc: int) -> str:
    try:
        return "" if file_crc(path) == crc else f"{path}: not the bytes that were written"
    except OSError as error:
        return f"{path}: cannot be read ({error.strerror})"


def _shard_damage(store: Store, shard: int, ids: np.ndarray, decode: bool) -> Iterator[Damage]:
    """Yields the damage in one shard, which has the recordings `ids`. Only a damaged shard is read twice."""
    try:
        with store.shard(shard) as path:
            wrong = _file_damage(path, store.info["shard_crc"][shard])
    except Unreachable:  # which is no damage
        raise
    except UserError as error:  # what was fetched from a bucket is not the shard
        yield {"shard": Path(shard_name(shard)).name, "id": None, "what": str(error)}
        return
    if not wrong and not decode:
        return
    lost = 0
    for i in ids.tolist():
        try:
            if not decode:
                store.record(i)
            elif content_hash(np.rint(store.read(i) * (1 << 15))) != store.digest[i].tobytes():
                raise UserError(f"{path}: recording {i} does not decode to the samples that were stored")
        except UserError as error:
            lost += 1
            yield {"shard": path.name, "id": i, "what": str(error)}
    if wrong and not lost:
        sound = ", but every recording in it can be read" if len(ids) else ""
        yield {"shard": path.name, "id": None, "what": f"{wrong}{sound}"}
