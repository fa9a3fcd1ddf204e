"""`jepa-speech inspect`: what a store holds, whether it is sound, and parts or stores made one."""

import argparse
from pathlib import Path
from typing import Any

from tqdm import tqdm

from jepa_speech.cli.prepare import in_words, print_figures
from jepa_speech.cli.recognised import other_than_a_store
from jepa_speech.errors import UsageError, UserError
from jepa_speech.ingest.inputs.passed_over import sentences
from jepa_speech.labelling.parts import merge_label_parts
from jepa_speech.store.inspection import describe, verify
from jepa_speech.store.joining import join
from jepa_speech.store.prepare import merge
from jepa_speech.store.store import Store
from jepa_speech.wording import counted, duration

HELP = "show what a store holds, verify it, or merge parts or whole stores into one"
EXAMPLE = "jepa-speech inspect stores/mine --verify"
BAR = 40  # characters of the longest bar
DESCRIBED = ("index/", "records.jsonl", "rejects.jsonl")  # what a description is read from
SHOWN = 20  # lines of damage printed; --json has them all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stores", nargs="+", metavar="STORE", help="folder written by `jepa-speech prepare`")
    parser.add_argument(
        "--verify",
        nargs="?",
        const="crc",
        choices=("crc", "decode"),
        help="hold every byte against its checksum; `decode`: and all samples against their hash. Exit code 1 if wrong",
    )
    parser.add_argument(
        "--merge",
        action="store_true",
        help="join the parts that `prepare --shard` or `label --shard` wrote; with --out, several whole stores",
    )
    parser.add_argument("--out", metavar="STORE", help="with --merge: a new folder for the stores named")
    parser.add_argument(
        "--max-reject-fraction", type=float, metavar="F", help="with --merge of parts, if not that given to `prepare`"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    for path in args.stores:
        if other := other_than_a_store(Path(path)):
            raise UserError(f"{path}: not a store but {other}")
    if args.merge:
        merged = _merge(args)
        print_figures(merged)
        for name in merged.get("labels", ()):
            print(f"labels of anchor {name} joined")
        return merged
    if args.out or len(args.stores) > 1:
        raise UsageError("several stores and --out go with --merge")
    store = Store(args.stores[0], damaged=bool(args.verify))
    damage = _verify(store, args.verify == "decode") if args.verify else []
    if any(row.get("file", "").startswith(DESCRIBED) for row in damage):
        results: dict[str, Any] = {"store": str(store.path)}  # its contents are unknown
    else:
        results = describe(store)
        _print(results)
    if args.verify:
        _print_damage(store, damage, args.verify == "decode")
        results["damage"] = damage
    if damage:
        raise UserError(_in_one_line(store, damage), results)
    return results


def _merge(args: argparse.Namespace) -> dict[str, Any]:
    if args.verify:
        raise UsageError("--merge and --verify are two commands")
    if args.out:
        return join(args.stores, args.out)
    if len(args.stores) > 1:
        raise UsageError("several stores are merged into a new one: name it with --out")
    results = merge(args.stores[0], args.max_reject_fraction)
    labels = merge_label_parts(Store(args.stores[0]))
    return results | {"labels": [path.name for path in labels]}


def _verify(store: Store, decode: bool) -> list[dict[str, Any]]:
    total = sum(store.info["shard_bytes"])
    with tqdm(total=total, desc="verify", unit="B", unit_scale=True, disable=None, mininterval=0.5) as bar:
        return verify(store, decode, bar.update)


def _print_damage(store: Store, damage: list[dict[str, Any]], decode: bool) -> None:
    total = sum(store.info["shard_bytes"])
    for row in damage[:SHOWN]:
        print(row["what"])
    if len(damage) > SHOWN:
        print(f"... and {len(damage) - SHOWN} more (--json FILE lists all)")
    if not damage:
        samples = " and samples" if decode else ""
        shards = counted(len(store.info["shard_bytes"]), "shard")
        print(f"sound: {total / 1e6:.1f} MB in {shards}, all bytes{samples} as written")


def _in_one_line(store: Store, damage: list[dict[str, Any]]) -> str:
    recordings = sum(row["id"] is not None for row in damage)
    files = len({row.get("shard") or row["file"] for row in damage})
    return (
        f"{store.path}: {counted(files, 'file')} damaged, {counted(recordings, 'recording')} lost; "
        "copy what is damaged again or prepare the store anew"
    )


def _print(found: dict[str, Any]) -> None:
    shards, seconds, level = found["shards"], found["seconds"], found["level_db"]
    sources = [f"{source['name']} ({source['records']})" for source in found["sources"]]
    lines = {
        "recordings": f"{found['records']:,}, {duration(found['hours'])}",
        "size": f"{found['bytes'] / 1e6:.1f} MB of {found['codec']} in {counted(shards['number'], 'shard')} of "
        f"{shards['smallest'] / 1e6:.1f} to {shards['largest'] / 1e6:.1f} MB",
        "durations": f"{seconds['least']:.2f} to {seconds['most']:.2f} s, median {seconds['median']:.2f} s",
        "": _histogram(found["histogram"]),
        "level": f"{level['5%']:.1f} to {level['95%']:.1f} dB (5% to 95%), median {level['median']:.1f} dB"
        if level
        else "",
        "silent": found["silent"],
        "files": _counts(found["suffixes"]),
        "rates": _counts(found["rates"]),
        "joined of": ", ".join(sources) if len(sources) > 1 else "",
        "rejected": f"{found['rejected']} {_counts(found['reasons'])}",
        "left out": "\n             ".join(sentences(found["passed_over"])),
        "duplicates": f"{found['duplicates']} with the same samples as another",
        "labels": in_words(found["fields"]),
        "label sets": ", ".join(found["labels"]) or "none",
        "decoder": f"{found['decoder']}" + (f": {_outdated(found)}" if found["outdated"] else ""),
        "fingerprint": found["fingerprint"],
    }
    for name, value in {"store": found["store"], **lines}.items():
        if value:
            print(f"{name:<12} {value}" if name else value)


def _outdated(found: dict[str, Any]) -> str:
    return (
        f"an earlier version, which gave wrong samples of MP3 files and of segments of compressed files; "
        f"of these kinds: {counted(found['outdated'], 'recording')}; prepare the store again"
    )


def _histogram(rows: list[dict[str, Any]]) -> str:
    most = max(row["records"] for row in rows)
    lines = []
    for row in rows:
        if row["records"]:
            to = f"to {row['to']} s" if row["to"] else "s or more"
            bar = "#" * max(1, round(BAR * row["records"] / most))
            lines.append(f"  {row['from']:>4} {to:<10} {row['records']:>9} {duration(row['hours']):>9}  {bar}")
    return "\n".join(lines)


def _counts(counter: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.items())
