"""jepa-speech analyze: a look inside checkpoints, side by side, as figures, pictures and one HTML report."""

import argparse
from typing import Any

from jepa_speech.api.analyze import analyze
from jepa_speech.api.analyze_report import held
from jepa_speech.cli import root_option as root
from jepa_speech.cli.commands import arguments
from jepa_speech.cli.step_option import add_steps
from jepa_speech.local_paths import local_path, path_or_bucket
from jepa_speech.probing import evaluate

HELP = "look inside checkpoints: clusters beside their targets, ranks, similarity of layers, curves, one HTML report"
EXAMPLE = "jepa-speech analyze --checkpoint RUN OTHER_RUN --store STORE --out analysis"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint",
        type=path_or_bucket,
        required=True,
        nargs="+",
        metavar="RUN",
        help="run folders or folders of transformers",
    )
    add_steps(parser)
    parser.add_argument("--store", type=path_or_bucket, required=True, metavar="STORE", help="recordings to look at")
    parser.add_argument(
        "--out", type=path_or_bucket, required=True, metavar="DIR", help="gets report.html, analysis.json and plots"
    )
    parser.add_argument(
        "--data", type=path_or_bucket, metavar="DIR", help="labelled recordings (valid split): adds the phone figures"
    )
    root.add_argument(parser)
    parser.add_argument(
        "--anchor",
        type=path_or_bucket,
        metavar="GMM.npz",
        help="the targets' anchor, of all checkpoints, if it was moved since training",
    )
    parser.add_argument(
        "--probe", type=local_path, metavar="FILE", help="results of `jepa-speech probe`: adds its plots"
    )
    parser.add_argument("--utterances", type=int, default=100, help="how many, drawn by the seed (default: 100)")
    parser.add_argument("--seed", type=int, default=0)


def run(options: argparse.Namespace) -> dict[str, Any]:
    results = analyze(**arguments(options, analyze), progress=True)
    for note in results["notes"]:
        print(note)
    for name, rows in results["tables"].items():
        first = next(iter(results["checkpoints"].values()))[name]
        where = f"{options.data}, valid split" if name == "data" else options.store
        print(f"\n{where}: {held(first['recordings'], first['seconds'])}")
        print(evaluate.text(rows))
    print(f"\nreport: {results['report']}")
    return results
