"""Check arguments of the Python API: each message names the argument, its value, and what to choose."""

from collections.abc import Sequence
from typing import Any

from jepa_speech.errors import UsageError

Part = tuple[int, int]  # (i, n): the i-th of n parts of a job, 0 <= i < n


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Raises UsageError if the value is not among the choices."""
    if value not in choices:
        *others, last = map(repr, choices)
        raise UsageError(f"{name} = {value!r}: choose {', '.join(others)} or {last}")


def check_part(part: Part | None) -> None:
    """Raises UsageError if there is no such part."""
    if part is not None and not 0 <= part[0] < part[1]:
        raise UsageError(f"part = {part}: choose (i, n) with 0 <= i < n")
