"""`jepa-speech prepare`: recordings → store."""

import argparse
from typing import Any

from jepa_speech.data.audio import CODECS
from jepa_speech.data.chunks import SHARD_MB
from jepa_speech.data.prepare import Part, prepare

HELP = "turn a folder of recordings, or JSON-lines manifests, into a store"
EXAMPLE = "jepa-speech prepare --input recordings/ --out stores/mine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        metavar="DIR|MANIFEST",
        help="folders of wav/flac/ogg/opus/mp3, or JSON-lines files with audio_path",
    )
    parser.add_argument("--out", required=True, metavar="STORE", help="a new folder; the same command again goes on")
    parser.add_argument("--codec", choices=CODECS, default="flac", help="pcm16 reads faster and takes twice the room")
    parser.add_argument(
        "--shard-mb",
        type=float,
        default=SHARD_MB,
        metavar="MB",
        help=f"size of a shard, in MB of the inputs' files (default: {SHARD_MB})",
    )
    parser.add_argument(
        "--shard",
        type=part,
        metavar="I/N",
        help="write only the I-th of N parts (from 0), for an array job; `inspect STORE --merge` joins them",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one per core)")
    parser.add_argument(
        "--max-reject-fraction",
        type=float,
        default=0.01,
        metavar="F",
        help="more unusable recordings than this are an error (default: 0.01)",
    )


def part(text: str) -> Part:
    """`--shard 3/8` as (3, 8)."""
    i, _, n = text.partition("/")
    if not (i.isdecimal() and n.isdecimal() and int(i) < int(n)):
        raise argparse.ArgumentTypeError(f"{text!r} is no part: I/N with 0 <= I < N, such as 0/8")
    return int(i), int(n)


def run(args: argparse.Namespace) -> dict[str, Any]:
    results = prepare(
        args.input,
        args.out,
        args.codec,
        args.workers,
        args.max_reject_fraction,
        shard_mb=args.shard_mb,
        part=args.shard,
    )
    if not results["whole"]:
        done = f"part {results['part']} is written: {results['shards']} shards of {results['read']} recordings"
        print(f"{results['store']}: {done}; once all are, run `jepa-speech inspect {results['store']} --merge`")
        return results
    print_figures(results)
    return results


def print_figures(results: dict[str, Any]) -> None:
    """What a store holds, and what was rejected, as `prepare` and `inspect --merge` print it."""
    size = f"{results['bytes'] / 1e6:.1f} MB of {results['codec']}"
    print(f"{results['store']}: {results['records']} recordings, {results['hours']:.2f} h, {size}")
    if results["duplicates"]:
        print(f"{results['duplicates']} with the same samples as another: see {results['store']}/duplicates.jsonl")
    if results["rejected"]:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(results["reasons"].items()))
        print(f"{results['rejected']} rejected ({reasons}): see {results['store']}/rejects.jsonl")
