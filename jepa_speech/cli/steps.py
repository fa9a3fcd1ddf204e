"""`--step`, for verbs that open a run: which of its checkpoints."""

import argparse

from jepa_speech.train.steps import Step, at_step

MEANINGS = "its step, latest, or best (the lowest train.best or held-out loss)"


def add_step(parser: argparse.ArgumentParser, default: str = "latest") -> None:
    parser.add_argument(
        "--step",
        type=step,
        metavar="N|latest|best",
        help=f"which checkpoint of the run: {MEANINGS} (default: {default})",
    )


def step(text: str) -> Step:
    """For argparse: a number, latest or best."""
    if text in ("latest", "best"):
        return text  # type: ignore[return-value]
    if text.isascii() and text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: the number of a step, latest or best")


def chosen(checkpoint: str, wanted: Step | None) -> str:
    """RUN/checkpoints/STEP of --checkpoint and --step; --checkpoint as it is without --step."""
    return checkpoint if wanted is None else str(at_step(checkpoint, wanted))
