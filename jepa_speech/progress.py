"""The progress of a task on stderr: lines, and bars of work on audio."""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

Say = Callable[[str], None]


def say_if(shown: bool) -> Say:
    """Return `say` if lines are to be shown, else `silent`."""
    return say if shown else silent


def say(line: str) -> None:
    """Print a line on stderr at once."""
    print(line, file=sys.stderr, flush=True)


def silent(line: str) -> None:
    """Do nothing."""


@contextmanager
def bar(what: str, seconds: float, shown: bool) -> Iterator[tqdm]:
    """Show a bar of about this many seconds of audio while the block runs; it ends at 100%.

    Fewer may be needed: a fit converges early, and labelling resumes after a kill.
    """
    with tqdm(total=math.ceil(seconds), desc=what, unit="s", unit_scale=True, disable=not shown) as progress:
        yield progress
        progress.total = progress.n
