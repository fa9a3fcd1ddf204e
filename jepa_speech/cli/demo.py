"""jepa-speech demo: every step from recordings to a probed and analysed encoder, at a small size."""

import argparse
from typing import Any

from jepa_speech.api.demo import demo
from jepa_speech.cli import root_option as root
from jepa_speech.cli.commands import arguments
from jepa_speech.local_paths import local_path
from jepa_speech.probing import evaluate

HELP = "run every step on synthetic voices, or on --data DIR, and write runs/demo/report.html"
EXAMPLE = "jepa-speech demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=local_path, metavar="DIR", help="your own recordings, instead of synthetic voices"
    )
    root.add_argument(parser)
    parser.add_argument("--out", type=local_path, default="runs/demo", metavar="DIR", help="default: runs/demo")
    parser.add_argument("--steps", type=int, default=800, metavar="N", help="of training (default: 800)")
    parser.add_argument("--components", type=int, default=128, metavar="K", help="of the mixture (default: 128)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    results = demo(**arguments(options, demo), progress=True)
    probes = list(results["probe"].values())
    table = [evaluate.text(evaluate.table(probes)), ""] if probes else []
    print("\n" + "\n".join([*table, *results["notes"], f"report: {results['report']}"]))
    return results
