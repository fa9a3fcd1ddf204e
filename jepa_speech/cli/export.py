"""`jepa-speech export`: a run folder → what other software reads."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from jepa_speech.api.export import export_hf, export_onnx, export_s3prl, export_stablehlo
from jepa_speech.cli.commands import Kind, add_kinds, arguments
from jepa_speech.cli.step_option import add_step
from jepa_speech.local_paths import path_or_bucket
from jepa_speech.wording import counted

HELP = "write a trained encoder for other software"
EXAMPLE = "jepa-speech export hf runs/hubert --out hubert-mine"

Results = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_kinds(parser, KINDS)


def run(options: argparse.Namespace) -> Results:
    return KINDS[options.kind].run(options)


def checkpoint_and_out(parser: argparse.ArgumentParser) -> None:
    """The options of every kind."""
    parser.add_argument("checkpoint", type=path_or_bucket, metavar="RUN", help="a run folder, or one of transformers")
    add_step(parser)
    parser.add_argument("--out", type=path_or_bucket, required=True, metavar="DIR", help="a new folder")


def hf_options(parser: argparse.ArgumentParser) -> None:
    checkpoint_and_out(parser)
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of the weights in the file: bfloat16 halves it and rounds them (default: float32)",
    )


def run_kind(
    export: Callable[..., Results], show: Callable[[Results, argparse.Namespace], None], options: argparse.Namespace
) -> Results:
    results = export(**arguments(options, export))
    show(results, options)
    return results


def show_hf(results: Results, options: argparse.Namespace) -> None:
    out = options.out
    size = f"{results['parameters'] / 1e6:.2f}M parameters"
    print(f"{out}: {results['class']} of step {results['step']}, {size}; fill in the licence in {out}/README.md")
    heads = "" if results["writes_texts"] else "heads of pretraining, the teacher, λ and "
    lost = f"{heads}the optimizer's state: to continue training, keep {options.checkpoint}"
    print(f"{out} lacks {lost}", file=sys.stderr)


def show_onnx(results: Results, options: argparse.Namespace) -> None:
    size = f"{results['bytes'] / 1e6:.1f} MB"
    print(f"{options.out}/model.onnx: {results['class']} of step {results['step']}, {size}")


def show_s3prl(results: Results, options: argparse.Namespace) -> None:
    print(f"{options.out}: {results['class']} of step {results['step']}, as an upstream for S3PRL")


def show_stablehlo(results: Results, options: argparse.Namespace) -> None:
    print(
        f"{options.out}: {results['objective']} of step {results['step']}, "
        f"{counted(results['layers'], 'layer')} of width {results['width']}, "
        f"{results['parameters'] / 1e6:.2f}M parameters"
    )


KINDS = {
    "hf": Kind(
        "a folder for transformers: native classes where they exist (docs/export.md lists them), otherwise our own "
        "torch code; CTC layer and tokenizer if any",
        EXAMPLE,
        hf_options,
        partial(run_kind, export_hf, show_hf),
    ),
    "onnx": Kind(
        "model.onnx, of whatever `export hf` takes: waves of any number and length in, all layers out",
        "jepa-speech export onnx runs/mine --out onnx-mine",
        checkpoint_and_out,
        partial(run_kind, export_onnx, show_onnx),
    ),
    "s3prl": Kind(
        "an upstream folder for S3PRL, of whatever `export hf` takes: list of waves in, hidden_states out",
        "jepa-speech export s3prl runs/mine --out s3prl-mine",
        checkpoint_and_out,
        partial(run_kind, export_s3prl, show_s3prl),
    ),
    "stablehlo": Kind(
        "a StableHLO program, of any encoder: waves of any number and length in, all layers out",
        "jepa-speech export stablehlo runs/mine --out stablehlo-mine",
        checkpoint_and_out,
        partial(run_kind, export_stablehlo, show_stablehlo),
    ),
}
