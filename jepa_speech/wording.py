"""Formatting of counts and durations in messages."""

import shlex


def counted(number: int, noun: str) -> str:
    """Returns "1 recording" or "1,200 recordings"."""
    return f"{number:,} {noun}" + "s" * (number != 1)


def duration(hours: float) -> str:
    """Returns a duration as text: in hours, minutes (below one hour) or seconds (below one minute)."""
    if hours >= 1:
        return f"{hours:.2f} h"
    return f"{hours * 60:.1f} min" if hours * 60 >= 1 else f"{hours * 3600:.1f} s"


def quoted(path: object) -> str:
    """Returns a path or URL as a shell takes it, for commands in messages."""
    return shlex.quote(str(path))
