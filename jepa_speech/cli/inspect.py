"""`jepa-speech inspect`: what a store holds, whether it is sound, and parts or stores made one."""

import argparse
import sys
from typing import Any

from jepa_speech.api.inspect import inspect, join_stores, merge_parts
from jepa_speech.cli.store_figures import in_words, print_figures
from jepa_speech.errors import UsageError, UserError
from jepa_speech.ingest.inputs.passed_over import sentences
from jepa_speech.local_paths import local_path, path_or_bucket
from jepa_speech.wording import counted, duration

HELP = "show what a store holds, verify it, or merge parts or complete stores into one"
EXAMPLE = "jepa-speech inspect stores/mine --verify"
BAR = 40  # characters of the longest bar
SHOWN = 20  # lines of damage printed; --json has them all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "stores", type=path_or_bucket, nargs="+", metavar="STORE", help="folder written by `jepa-speech prepare`"
    )
    parser.add_argument(
        "--verify",
        nargs="?",
        const="crc",
        choices=("crc", "decode"),
        help="check every byte against its checksum; `decode` also checks all samples. Exit code 1 if damaged",
    )
    parser.add_argument(
        "--merge",
        action="store_true",
        help="join the parts that `prepare --part` or `label --part` wrote; with --out, several complete stores",
    )
    parser.add_argument(
        "--out", type=local_path, metavar="STORE", help="with --merge: a new folder for the stores named"
    )
    parser.add_argument(
        "--max-reject-fraction", type=float, metavar="F", help="with --merge of parts, if not that given to `prepare`"
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    if options.merge:
        merged = _merge(options)
        print_figures(merged)
        for name in merged.get("labels", ()):
            print(f"labels of anchor {name} joined")
        return merged
    if options.out or len(options.stores) > 1:
        raise UsageError("several stores and --out go with --merge")
    results = inspect(options.stores[0], verify=options.verify, progress=sys.stderr.isatty())
    if "records" in results:
        _print(results)
    if options.verify:
        _print_damage(results, options.verify == "decode")
    if results.get("damage"):
        raise UserError(_in_one_line(results), results)
    return results


def _merge(options: argparse.Namespace) -> dict[str, Any]:
    progress = sys.stderr.isatty()
    if options.verify:
        raise UsageError("--merge and --verify are two commands")
    if options.out:
        return join_stores(options.stores, options.out, progress=progress)
    if len(options.stores) > 1:
        raise UsageError("several stores are merged into a new one: name it with --out")
    return merge_parts(options.stores[0], max_reject_fraction=options.max_reject_fraction, progress=progress)


def _print_damage(results: dict[str, Any], decode: bool) -> None:
    damage = results["damage"]
    for row in damage[:SHOWN]:
        print(row["what"])
    if len(damage) > SHOWN:
        print(f"... and {len(damage) - SHOWN} more (--json FILE lists all)")
    if not damage:
        samples = " and samples" if decode else ""
        shards = counted(results["shards"]["number"], "shard")
        print(f"sound: {results['bytes'] / 1e6:.1f} MB in {shards}, all bytes{samples} as written")


def _in_one_line(results: dict[str, Any]) -> str:
    damage = results["damage"]
    recordings = sum(row["id"] is not None for row in damage)
    files = len({row.get("shard") or row["file"] for row in damage})
    return (
        f"{results['store']}: {counted(files, 'file')} damaged, {counted(recordings, 'recording')} lost; "
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
