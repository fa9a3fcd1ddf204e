"""`--part I/N`, for verbs that array jobs do in parts."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any


def add_part(parser: argparse.ArgumentParser) -> None:
    """Adds the option, and its older name `--shard`, which prints a line on stderr."""
    parser.add_argument(
        "--part",
        type=part,
        metavar="I/N",
        help="only the I-th of N parts, counted from 0, for array jobs; then `jepa-speech inspect STORE --merge`",
    )
    parser.add_argument("--shard", type=part, dest="part", action=_OlderName, help=argparse.SUPPRESS)


def part(text: str) -> tuple[int, int]:
    """For argparse: I/N with 0 <= I < N, as (I, N)."""
    i, _, n = text.partition("/")
    if not (i.isdecimal() and n.isdecimal() and int(i) < int(n)):
        raise argparse.ArgumentTypeError(f"{text!r} is no part: I/N with 0 <= I < N, such as 0/8")
    return int(i), int(n)


class _OlderName(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        print(f"{option_string} is named --part now", file=sys.stderr)
        setattr(namespace, self.dest, values)
