"""The options of every kind of anchor, and what `fit` prints first of any."""

import argparse
import math
from typing import Any

from jepa_speech.anchors.anchor import NORMALIZE
from jepa_speech.api.fit_shared import HOURS
from jepa_speech.cli.step_option import add_step
from jepa_speech.features import grid
from jepa_speech.features.spectral import DIMS
from jepa_speech.local_paths import path_or_bucket
from jepa_speech.wording import counted, duration


def add_shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", type=path_or_bucket, required=True, help="folder written by `jepa-speech prepare`")
    parser.add_argument(
        "--features",
        metavar="FEATURES",
        help=f"{', '.join(DIMS)}, or layer:N of --checkpoint (0: the input of its first block)",
    )
    parser.add_argument(
        "--checkpoint",
        type=path_or_bucket,
        metavar="RUN",
        help="for layer:N: a run folder, or one of transformers",
    )
    add_step(parser)
    parser.add_argument(
        "--normalize",
        choices=NORMALIZE,
        default="level",
        help="level: audio at level 1; mean: also less each recording's mean feature vector",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--hours",
        type=hours,
        default=HOURS,
        metavar="H",
        help=f"of audio to fit on, whole recordings drawn by the seed (default {HOURS:g}), or `all`; "
        "frames beyond 2 GB are computed anew in each pass",
    )
    parser.add_argument(
        "--curve",
        nargs="+",
        type=float,
        metavar="H",
        help="fit twice at each number of hours and plot the gain, instead of writing an anchor",
    )


def hours(text: str) -> float:
    """For argparse: a number, or `all`."""
    return math.inf if text == "all" else float(text)


def print_head(results: dict[str, Any]) -> None:
    of = f" of {results['checkpoint']}" if "checkpoint" in results else ""
    print(f"anchor       {results['anchor']}  ({results['features']}{of}, normalized by {results['normalize']})")
    audio = duration(results["frames"] / grid.FRAME_RATE / 3600)
    print(f"frames       {results['frames']:,} ({audio}) of {counted(results['recordings'], 'recording')}")
    alive = f"{results['components_alive']} alive of {results['components']}"
    print(f"components   {alive}, {results['reseeded']} reseeded")
