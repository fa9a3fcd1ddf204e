"""`jepa-speech import`: a checkpoint of other software → a run folder."""

import argparse
from typing import Any

from jepa_speech.cli import import_hf
from jepa_speech.cli.commands import add_kinds

HELP = "make a run folder of a public checkpoint of transformers' speech models, or of an export"
EXAMPLE = import_hf.EXAMPLE
KINDS = {"hf": import_hf}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_kinds(parser, KINDS)


def run(options: argparse.Namespace) -> dict[str, Any]:
    return KINDS[options.kind].run(options)
