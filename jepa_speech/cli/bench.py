"""`jepa-speech bench`: how fast a part of the road is by itself, on this machine."""

import argparse
from typing import Any

from jepa_speech.cli import bench_data
from jepa_speech.cli.commands import add_kinds

HELP = "how fast a part is by itself on this machine: the loader"
EXAMPLE = bench_data.EXAMPLE
KINDS = {"data": bench_data}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_kinds(parser, KINDS)


def run(options: argparse.Namespace) -> dict[str, Any]:
    return KINDS[options.kind].run(options)
