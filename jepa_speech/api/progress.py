"""Progress bars of work on audio, on stderr."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def bar(what: str, seconds: float, shown: bool) -> Iterator[tqdm]:
    """Shows a bar of about this many seconds of audio while the block runs; it ends at 100%.

    Fewer may be needed: a fit converges early, and labelling resumes after a kill.
    """
    with tqdm(total=math.ceil(seconds), desc=what, unit="s", unit_scale=True, disable=not shown) as progress:
        yield progress
        progress.total = progress.n
