"""Errors that a user can mend. Each message is one line: what is wrong, and what to do."""

from collections.abc import Mapping
from typing import Any

# Control characters and line separators, which the name of a file or a value from one may hold.
CONTROL = {code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160), 0x2028, 0x2029)}


def one_line(text: str) -> str:
    """Returns the text with escapes in place of line breaks and all that a terminal would obey."""
    return text.translate(CONTROL)


class UserError(Exception):
    """Something outside the code is wrong (a file, a store, a disk).

    results: results known despite the failure; `--json FILE` gets them, with the message as `error`.
    """

    exit_code = 1

    def __init__(self, message: str = "", results: Mapping[str, Any] | None = None) -> None:
        super().__init__(one_line(message))
        self.results = results


class UsageError(UserError):
    """The command line, the config or an argument of a function asks for something that cannot be."""

    exit_code = 2


class Interrupted(UserError):
    """The work was saved before it was done: run the same command again."""

    exit_code = 75
