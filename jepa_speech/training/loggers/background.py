"""A logging service in a thread of its own: training neither waits for a network nor ends with it."""

import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from queue import SimpleQueue

from tqdm import tqdm

from jepa_speech.errors import one_line
from jepa_speech.training.loggers.logger import Service

Report = tuple[int, Mapping[str, float]]  # a step and its values


class Background:
    """Calls a service in a daemon thread. Its first error ends the logger, not the run, and is printed as one line.

    A resumed run computes steps again that the service may have. These are not logged twice. Conversely, a service may
    have lost what it had not yet sent or written when a process was killed, or may be new to the run. Such steps are
    logged first.
    """

    def __init__(
        self, name: str, open_service: Callable[[], Service], past: Iterable[Report], close_seconds: float = 60.0
    ) -> None:
        """open_service: connects to the service. past: the reports before this start, iterated in the thread.
        close_seconds: the longest time that `close` waits.
        """
        self.name, self.open_service, self.past, self.close_seconds = name, open_service, past, close_seconds
        self.reports: SimpleQueue[Report | None] = SimpleQueue()  # None: no more
        self.failed = False
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Returns at once."""
        if not self.failed:
            self.reports.put((step, values))

    def close(self) -> None:
        """Waits for the service. If `close_seconds` are too short, a line says so."""
        self.reports.put(None)
        self.thread.join(self.close_seconds)
        if self.thread.is_alive():
            self.failed = True
            self._say(f"not finished after {self.close_seconds:g} s, so the last figures may be missing there")

    def _run(self) -> None:
        try:
            service = self.open_service()
            for step, values in self.past:
                if step > service.last:
                    service.log(step, values)
            while report := self.reports.get():
                if report[0] > service.last:
                    service.log(*report)
            service.close()
        except Exception as error:  # whatever the service's client may raise
            if not self.failed:
                self.failed = True
                self._say(f"no more figures are logged there ({type(error).__name__}: {error})")

    def _say(self, what: str) -> None:
        tqdm.write(one_line(f"{self.name}: {what}; metrics.jsonl has all figures"), file=sys.stderr)  # above the bar
