"""jepa-speech embed: recordings → one layer of a trained encoder, as arrays in one file."""

import argparse
import sys
from typing import Any

from jepa_speech.api.embed import embed
from jepa_speech.cli import root_option as root
from jepa_speech.cli.commands import arguments
from jepa_speech.cli.step_option import add_step
from jepa_speech.local_paths import path_or_bucket
from jepa_speech.wording import counted

HELP = "features of recordings, by a trained encoder, as .npz or .parquet: for each file an array (frames, width)"
EXAMPLE = "jepa-speech embed a.flac b.wav --checkpoint runs/mine --layer 3 --out features.npz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "audio", type=path_or_bucket, nargs="+", metavar="AUDIO", help="recordings of any rate, and folders of them"
    )
    root.add_argument(parser, path_or_bucket)
    parser.add_argument(
        "--checkpoint", type=path_or_bucket, required=True, metavar="RUN", help="a run folder, or one of transformers"
    )
    add_step(parser)
    parser.add_argument("--layer", type=int, metavar="N", help="0 is the input of the first block (default: the last)")
    parser.add_argument(
        "--out",
        type=path_or_bucket,
        required=True,
        metavar="FILE",
        help="FILE.npz or FILE.parquet: the arrays, float32, by the files' names",
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    results = embed(**arguments(options, embed), progress=sys.stderr.isatty())
    if results["already_complete"]:
        print(f"{options.out}: already complete, by this same command; remove the file to write it again")
    else:
        print(
            f"{options.out}: {counted(results['files'], 'file')}, {results['frames']} frames of width "
            f"{results['width']}, layer {results['layer']} of 0 to {results['layers'] - 1}, "
            f"{results['frame_rate']:g} frames a second"
        )
    return results
