"""`jepa-speech bench`: the speed of one part of the pipeline, on this machine."""

import argparse
from typing import Any

from jepa_speech.cli import bench_data, bench_step
from jepa_speech.cli.commands import add_kinds

HELP = "how fast a part is by itself on this machine: the loader, the train step"
EXAMPLE = bench_data.EXAMPLE
KINDS = {"data": bench_data, "step": bench_step}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_kinds(parser, KINDS)


def run(options: argparse.Namespace) -> dict[str, Any]:
    return KINDS[options.kind].run(options)
