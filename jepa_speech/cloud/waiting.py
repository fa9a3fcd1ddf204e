"""Lines on stderr while something outside this process takes long."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SLOW = 15.0  # seconds


@contextmanager
def waiting_for(what: str) -> Iterator[None]:
    """Says on stderr every SLOW seconds while the block runs that it waits for `what`."""
    done = threading.Event()

    def say() -> None:
        waited = SLOW
        while not done.wait(SLOW):
            print(f"{what}: still waiting after {waited:g} s", file=sys.stderr)
            waited += SLOW

    threading.Thread(target=say, daemon=True).start()
    try:
        yield
    finally:
        done.set()
