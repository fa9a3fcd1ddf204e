"""Kills at any moment, for tests of whatever must survive them: a process ends at its k-th rename."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


class Killed(BaseException):
    """Represents a kill. No code catches it."""


def at_every_rename(call: Callable[[], object]) -> Iterator[int]:
    """Runs `call` again and again, killed just before its first rename, just after it, before its second, and so on.

    Yields the number of kills after each; ends when a call succeeds. The caller may change the files in between.
    """
    for moment in range(1000):
        left = [moment]
        with pytest.MonkeyPatch.context() as patch:
            for name in ("rename", "replace", "hardlink_to"):
                patch.setattr(Path, name, _dying(getattr(Path, name), left))
            try:
                call()
                return
            except Killed:
                pass
        yield moment + 1
    raise AssertionError("it never got through")


def _dying(rename: Callable[..., object], left: list[int]) -> Callable[..., object]:
    def step() -> None:
        if left[0] == 0:
            raise Killed
        left[0] -= 1

    def renaming(path: Path, target: Path) -> object:
        step()
        result = rename(path, target)
        step()
        return result

    return renaming
