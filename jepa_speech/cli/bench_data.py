"""`jepa-speech bench data`: the loader alone, without a training that it would wait for."""

import argparse
import sys
from typing import Any

from jepa_speech.api.bench import WORKERS, bench_data
from jepa_speech.cli.commands import arguments
from jepa_speech.local_paths import path_or_bucket
from jepa_speech.wording import counted, duration

HELP = "read batches of a store as training does, as fast as they come"
EXAMPLE = "jepa-speech bench data STORE --workers 0 1 2 --seconds 10"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", type=path_or_bucket, metavar="STORE", help="folder written by `jepa-speech prepare`")
    parser.add_argument(
        "--workers",
        type=int,
        nargs="+",
        default=WORKERS,
        metavar="N",
        help="reading processes, one measurement each; 0: two threads of this one (default: 0 1 2)",
    )
    parser.add_argument("--seconds", type=float, default=10, metavar="S", help="of each measurement (default: 10)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    results = bench_data(**arguments(options, bench_data), progress=sys.stderr.isatty())
    held = f"{counted(results['recordings'], 'recording')}, {duration(results['hours'])}, {results['codec']}"
    print(f"{results['store']}: {held}; batches as base.py has them")
    print("workers  utterances/s  audio-h/h  MB/s of store  memory MB")
    for found in results["runs"]:
        print(
            f"{found['workers']:7d}  {found['utterances_per_second']:12.0f}  {found['audio_hours_per_hour']:9.0f}"
            f"  {found['mb_per_second']:13.1f}  {found['pss_mb']:9.0f}"
        )
    return results
