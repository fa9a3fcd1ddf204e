"""What every kind of `jepa-speech export` is told: which run, and where to."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", metavar="RUN", help="a run folder (its newest checkpoint), or one of transformers"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="a new folder")
