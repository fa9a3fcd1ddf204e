"""Suppress the tracebacks that orbax logs for errors that it also raises."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet_orbax() -> Iterator[None]:
    """Inside the block, orbax does not log errors that it also raises. One failed write would log 100 kB.

    It logs such an error in several threads, and TensorStore's threads report results to an event loop that is then
    closed. After an error in the block the filter stays, since those threads may still log.
    """
    log, report = logging.getLogger("absl"), sys.unraisablehook

    def report_others(found: Any) -> None:
        if not (isinstance(found.exc_value, RuntimeError) and "Event loop is closed" in str(found.exc_value)):
            report(found)

    log.addFilter(is_news)
    sys.unraisablehook = report_others
    yield
    sys.unraisablehook = report
    log.removeFilter(is_news)


def is_news(record: logging.LogRecord) -> bool:
    """Returns False for a log record of orbax that repeats an error which orbax raises."""
    raised = record.exc_info or record.getMessage().startswith(("Failed to ", "Metadata file does not exist"))
    return not (raised and "orbax" in record.pathname)
