"""Errors that a user can fix. Each message is one line: what is wrong, and what to do."""

from collections.abc import Mapping
from typing import Any

# Control characters and line separators, which file names and values from files may contain.
CONTROL = {code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160), 0x2028, 0x2029)}


def one_line(text: str) -> str:
    """Returns the text with line breaks and control characters escaped."""
    return text.translate(CONTROL)


class UserError(Exception):
    """An error outside the code (in a file, a store, a disk).

    results: results known despite the failure; `--json FILE` writes them, with the message as `error`.
    """

    exit_code = 1

    def __init__(self, message: str = "", results: Mapping[str, Any] | None = None) -> None:
        super().__init__(one_line(message))
        self.results = results


class UsageError(UserError):
    """An error in the command line, the config or an argument of a function."""

    exit_code = 2


class Interrupted(UserError):
    """Raised when work was saved before it was finished; the same command resumes it."""

    exit_code = 75
