"""The options of every kind of `jepa-speech export`: which checkpoint, and where to write."""

import argparse

from jepa_speech.cli.step_option import add_step


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="RUN", help="a run folder, or one of transformers")
    add_step(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="a new folder")
