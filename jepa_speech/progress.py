"""Lines about the progress of a task, on stderr."""

import sys
from collections.abc import Callable

Say = Callable[[str], None]


def say_if(shown: bool) -> Say:
    """Return `say` if lines are to be shown, else `silent`."""
    return say if shown else silent


def say(line: str) -> None:
    """Print a line on stderr at once."""
    print(line, file=sys.stderr, flush=True)


def silent(line: str) -> None:
    """Do nothing."""
