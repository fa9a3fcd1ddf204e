"""`--shard I/N`, for verbs that array jobs do in parts."""

import argparse


def part(text: str) -> tuple[int, int]:
    """For argparse: I/N with 0 <= I < N, as (I, N)."""
    i, _, n = text.partition("/")
    if not (i.isdecimal() and n.isdecimal() and int(i) < int(n)):
        raise argparse.ArgumentTypeError(f"{text!r} is no part: I/N with 0 <= I < N, such as 0/8")
    return int(i), int(n)
