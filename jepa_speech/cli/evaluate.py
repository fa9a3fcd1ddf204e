"""jepa-speech evaluate: a checkpoint's loss on recordings that it was not trained on."""

import argparse
import math
from typing import Any

from jepa_speech.api.evaluate import evaluate
from jepa_speech.cli.commands import arguments
from jepa_speech.cli.step_option import add_step
from jepa_speech.ingest.lengths import in_words
from jepa_speech.local_paths import path_or_bucket
from jepa_speech.wording import counted

NO_FIGURES = ("checkpoint", "step", "store", "recordings", "seconds", "cropped", "longest_crop", "left_out")
HELP = "the loss of a checkpoint on held-out recordings, term by term"
EXAMPLE = "jepa-speech evaluate --checkpoint runs/smoke --store heldout"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint", type=path_or_bucket, required=True, metavar="RUN", help="run folder of `jepa-speech train`"
    )
    add_step(parser)
    parser.add_argument(
        "--store",
        type=path_or_bucket,
        required=True,
        help="store of held-out recordings, labelled too if the objective uses labels",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the masks and crops (default 0)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    results = evaluate(**arguments(options, evaluate), progress=True)
    for found in results["left_out"]:
        print(in_words(found))
    print(
        f"{options.checkpoint}, step {results['step']}, on {counted(results['recordings'], 'recording')} of "
        f"{options.store}, {results['seconds']:.0f} s"
        + (f" ({results['cropped']:,} of them cropped to {results['longest_crop']:g} s)" if results["cropped"] else "")
    )
    for name, figure in results.items():
        if name not in NO_FIGURES and math.isfinite(figure):
            print(f"{name:<24}{figure:.5g}")
    if "lambda" in results:
        print(
            f"loss weighs its terms as step {results['step']} does (lambda {results['lambda']:.3g}); compare runs by "
            "cluster, the held-out loss of docs/results.md"
        )
    return results
