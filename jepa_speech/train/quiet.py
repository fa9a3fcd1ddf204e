"""Orbax without the tracebacks that it prints of errors which it raises as well."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet_orbax() -> Iterator[None]:
    """Within, orbax prints no error that it also raises: one failed write is otherwise 100 kB on stderr.

    It logs such an error in several threads, and TensorStore's threads report results to an event loop that is closed
    by then. After an error in the block this stays so, since those threads may still be at it.
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
    """Whether a line of orbax's log says more than an error that it raises."""
    raised = record.exc_info or record.getMessage().startswith(("Failed to ", "Metadata file does not exist"))
    return not (raised and "orbax" in record.pathname)
