"""jepa-speech compare: objectives side by side, on the same recordings, in the same order, for the same steps or work.

Every step is a verb in a process of its own, by the command that is shown.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jepa_speech.api.compare import compare
from jepa_speech.api.compare_tables import INTERVALS
from jepa_speech.cli import root_option as root
from jepa_speech.cli.commands import arguments
from jepa_speech.local_paths import local_path
from jepa_speech.path_lists import path_and_rest
from jepa_speech.probing import evaluate

HELP = "train objectives alike, probe them alike, and put them into one table and one report"
EXAMPLE = (
    "jepa-speech compare --config configs/compare_small.py --objectives gmm_jepa,pure_jepa,hubert "
    "--input pretrain.manifest.jsonl --data DIR:phones,speaker --budgets 800,3200 --seeds 3 --out runs/compare"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=local_path,
        required=True,
        metavar="FILE",
        help="such as configs/compare_small.py, or compare_small for the package's own",
    )
    parser.add_argument(
        "--objectives", type=names, metavar="A,B,...", help="variants of the config (default: those of its LADDER)"
    )
    parser.add_argument(
        "--input",
        type=local_path,
        dest="inputs",
        required=True,
        metavar="DIR|MANIFEST",
        help="what all train on, unlabelled",
    )
    parser.add_argument(
        "--data",
        type=local_path,
        required=True,
        nargs="+",
        metavar="DIR[:TASK,...]",
        help="what is probed on (default task: phones)",
    )
    root.add_argument(parser)
    parser.add_argument(
        "--budgets",
        "--budget",
        type=names,
        metavar="STEPS|nFLOP,...",
        help="of each run: 800 steps, or work such as 3e14FLOP (default: those of the config's LADDER)",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="runs of each objective at each budget (default: those of the config's LADDER, without one 1)",
    )
    parser.add_argument(
        "--out",
        type=local_path,
        required=True,
        metavar="DIR",
        help="gets compare.json, report.html, the results of finished runs, and all runs",
    )
    parser.description = f"{parser.description}; --config.KEY=VALUE changes a key for every objective"


def names(text: str) -> list[str]:
    """For argparse: A,B,... as [A, B, ...]."""
    return text.split(",")


def run(options: argparse.Namespace) -> dict[str, Any]:
    chosen = arguments(options, compare) | {"data": labelled_of(options.data)}
    results = compare(**chosen, progress=True)
    header, *rows = results["differences"]
    first = evaluate.text([header, *(row for row in rows if row[0] == rows[0][0])])  # all are in the report
    print("\n".join(["", evaluate.text(results["table"]), "", first, "", INTERVALS]))
    print(f"written: {Path(options.out) / 'compare.json'}, {Path(options.out) / 'report.html'}")
    return results


def labelled_of(texts: Sequence[str]) -> dict[str, list[str]]:
    """DIR or DIR:TASK,TASK of each -> tasks by folder."""
    found: dict[str, list[str]] = {}
    for text in texts:
        folder, tasks = path_and_rest(text, is_labelled, "--data")
        found.setdefault(folder, []).extend((tasks or "phones").split(","))
    return found


def is_labelled(folder: str, tasks: str) -> bool:
    """Whether --data FOLDER:TASKS can be read as this folder and these tasks."""
    return Path(folder).is_dir() and (not tasks or set(tasks.split(",")) <= set(evaluate.TASKS))
