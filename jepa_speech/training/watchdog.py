"""End a run that hangs, and write where it hung."""

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jepa_speech.errors import Interrupted


class Watchdog:
    """Ends the process with exit code 75 if no step ends for `seconds`. 0: no limit.

    Before that, it writes a line with the last step and the stacks of all threads to RUN/stacks-<process>.txt. Time in
    `paused` does not count.

    stop_seconds: the limit of the step in progress once `hurry` was called, or three times the longest step before it
    if that is more. 0: no limit.
    """

    def __init__(self, seconds: float, workdir: Path, process: int, step: int, stop_seconds: float = 0) -> None:
        self.seconds, self.step, self.stop_seconds = seconds, step, stop_seconds
        self.longest = 0.0  # seconds of a step
        self.path = workdir / f"stacks-{process}.txt"
        self.seen: float | None = time.monotonic()  # None while paused
        self.over, self.saved = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        if self.seconds:
            self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.saved.set()

    def done(self, step: int) -> None:
        """Records that `step` has ended."""
        now = time.monotonic()
        if self.seen is not None:
            self.longest = max(self.longest, now - self.seen)
        self.step, self.seen = step, now

    def hurry(self, name: str) -> None:
        """Limits the step in progress to `stop_seconds` from now, because the signal `name` came."""
        if self.stop_seconds:
            threading.Thread(target=self._wait_for_step, args=[name], name="stopping", daemon=True).start()

    def saving(self) -> None:
        """Records that the last step has ended. Saving the state is not limited by `hurry`."""
        self.saved.set()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stops the clock inside the block, for example during compilation."""
        self.seen = None
        yield
        self.seen = time.monotonic()

    def _watch(self) -> None:
        while not self.over.wait(min(1.0, self.seconds / 10)):
            seen = self.seen
            if seen is not None and time.monotonic() - seen > self.seconds:
                self._give_up(f"no step for {self.seconds:g} s; the last was {self.step}")

    def _wait_for_step(self, name: str) -> None:
        limit, began = max(self.stop_seconds, 3 * self.longest), time.monotonic()
        while not self.saved.wait(min(1.0, limit / 10)):
            if self.seen is None:  # A pause may be long. The step after it gets the whole limit.
                began = time.monotonic()
            if time.monotonic() - began > limit:
                self._give_up(
                    f"{name}, and step {self.step + 1} did not end within {limit:g} s; the last was {self.step}"
                )

    def _give_up(self, what: str) -> None:
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S%z')}: {what}\n\n")
                file.flush()
                faulthandler.dump_traceback(file, all_threads=True)
            print(f"{what}; {self.path} has the stacks of all threads; run the same command to resume", file=sys.stderr)
        finally:  # even if the disk hangs or is full
            sys.stderr.flush()
            os._exit(Interrupted.exit_code)
