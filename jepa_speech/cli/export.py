"""`jepa-speech export`: a run folder → what other software reads."""

import argparse
from typing import Any

from jepa_speech.cli import export_hf, export_onnx, export_s3prl, export_stablehlo
from jepa_speech.cli.commands import add_kinds

HELP = "write a trained encoder for other software"
EXAMPLE = export_hf.EXAMPLE
KINDS = {"hf": export_hf, "onnx": export_onnx, "s3prl": export_s3prl, "stablehlo": export_stablehlo}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_kinds(parser, KINDS)


def run(options: argparse.Namespace) -> dict[str, Any]:
    return KINDS[options.kind].run(options)
