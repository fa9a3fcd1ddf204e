"""`--step`, for verbs that open a run: which of its checkpoints."""

import argparse

from jepa_speech.training.checkpoint_steps import Step

MEANINGS = "its step, latest, or best (the lowest train.best or held-out loss, see docs/training.md)"


def add_step(parser: argparse.ArgumentParser, default: str = "latest") -> None:
    parser.add_argument(
        "--step",
        type=step,
        metavar="N|latest|best",
        help=f"which checkpoint of the run: {MEANINGS} (default: {default})",
    )


def add_steps(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--step",
        type=steps,
        action="extend",
        metavar="N|latest|best[,...]",
        help=f"which checkpoint of the run: {MEANINGS} (default: latest). Several, separated by commas or by a further "
        "--step, of one run: every figure is also plotted against the step",
    )


def steps(text: str) -> list[Step]:
    """For argparse: what `step` takes, separated by commas."""
    return [step(part) for part in text.split(",")]


def step(text: str) -> Step:
    """For argparse: a number, latest or best."""
    if text in ("latest", "best"):
        return text  # type: ignore[return-value]  # mypy does not narrow a str to two
    if text.isascii() and text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: the number of a step, latest or best")
