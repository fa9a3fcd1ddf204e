"""`jepa-speech prepare`: recordings → store."""

import argparse
from typing import Any

from jepa_speech.data.audio import CODECS
from jepa_speech.data.prepare import prepare

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
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one per core)")
    parser.add_argument(
        "--max-reject-fraction",
        type=float,
        default=0.01,
        metavar="F",
        help="more unusable recordings than this are an error (default: 0.01)",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    results = prepare(args.input, args.out, args.codec, args.workers, args.max_reject_fraction)
    size = f"{results['bytes'] / 1e6:.1f} MB of {results['codec']}"
    print(f"{results['store']}: {results['records']} recordings, {results['hours']:.2f} h, {size}")
    if results["rejected"]:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(results["reasons"].items()))
        print(f"{results['rejected']} rejected ({reasons}): see {results['store']}/rejects.jsonl")
    return results
