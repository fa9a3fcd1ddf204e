"""jepa-speech probe: measure what a linear classifier can read from frozen features."""

import argparse
from typing import Any

from jepa_speech.analysis import over_steps
from jepa_speech.api.probe import probe
from jepa_speech.cli import language_model
from jepa_speech.cli import root_option as root
from jepa_speech.cli.commands import arguments
from jepa_speech.cli.step_option import add_steps
from jepa_speech.cloud.mirror import local_copy
from jepa_speech.local_paths import local_path, path_or_bucket
from jepa_speech.probing import bootstrap, evaluate
from jepa_speech.probing.baselines import BASELINES
from jepa_speech.probing.evaluate import Results
from jepa_speech.probing.saved import read_results

HELP = "test what frozen features know: phones, words, speakers, emotions, intents, slots, ABX"
EXAMPLE = "jepa-speech probe --checkpoint RUN --data DIR --tasks phones,speaker --out results"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint",
        type=path_or_bucket,
        required=True,
        metavar="RUN",
        help=f"a run folder, one of transformers, or one of: {', '.join(BASELINES)}, random (an untrained encoder)",
    )
    add_steps(parser)
    parser.add_argument(
        "--data", type=path_or_bucket, required=True, metavar="DIR", help="labelled recordings; see docs/probing.md"
    )
    root.add_argument(parser)
    parser.add_argument("--tasks", default="phones", help=f"some of {', '.join(evaluate.TASKS)} (default: phones)")
    parser.add_argument(
        "--out", type=path_or_bucket, required=True, metavar="DIR", help="gets NAME.json and plots in NAME/"
    )
    parser.add_argument("--name", help="what to call the system (default: the folder's name); --step adds -STEP to it")
    parser.add_argument(
        "--like", type=local_path, metavar="RUN", help="for random: the run, or config file, whose architecture to take"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the classifier, and of the random encoder")
    parser.add_argument(
        "--against",
        type=path_or_bucket,
        nargs="+",
        default=(),
        metavar="FILE",
        help="results of another system (one file per seed), for a paired comparison",
    )
    parser.add_argument(
        "--cache",
        type=local_path,
        metavar="DIR",
        help="keeps features there, for further tasks and runs, at most 32 GiB (default: no cache)",
    )
    parser.add_argument(
        "--pool",
        type=path_or_bucket,
        nargs="+",
        default=(),
        metavar="FILE",
        help="results of further seeds of this same system",
    )
    language_model.add_arguments(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    by_step = {}

    def each(found: Results) -> None:
        pooled = [read_results(local_copy(path)) for path in args.pool]  # `probe` has checked them
        show(found, pooled, len(args.against), args.out)
        by_step[found.get("step", 0)] = found

    results = probe(**arguments(args, probe), each=each, progress=True)
    if len(by_step) > 1:
        print("\n" + evaluate.text(over_steps.table(by_step)))
        drawn = ", ".join(f"{task}_steps.png" for task in results["tasks"])
        print(f"written: {args.out}/{results['name']}/steps.json and {drawn} beside it")
    return results


def show(results: Results, pooled: list[Results], others: int, folder: str) -> None:
    """Prints the results of one system, and how they compare. others: how many seeds the other system has."""
    print(evaluate.text(evaluate.table([*pooled, results])))
    if any(len(part["heads"]) > 1 for part in results["tasks"].values()):
        print("* chosen on the validation split")
    runs = f", {1 + len(pooled)} runs against {others}" if pooled or others > 1 else ""
    for task, found in results.get("against", {}).items():
        figure, better = next(iter(results["tasks"][task]["figures"].items()))
        less = f", {figure}: less is better" if better == "lower" else ""
        difference = f"{results['name']} - {found['system']} = {bootstrap.estimate_of(found)} points"
        print(f"{task}: {difference} (paired{runs}{less})")
    print(f"written: {folder}/{results['name']}.json, plots in {folder}/{results['name']}/")
