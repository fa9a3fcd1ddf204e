"""Progress bars on stderr."""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tqdm import tqdm

Bar = Callable[[str, int, str], Any]  # (description, total, unit) -> a bar, for use in a `with` statement


def bars(task: str, shown: bool = True) -> Bar:
    """Returns a function that makes the bars of one task."""

    def bar(what: str, total: int, unit: str) -> Any:
        return tqdm(total=total, desc=f"{task}: {what}", unit=unit, **look(shown))

    return bar


def stepped(steps: int, bar: Callable[[int, str], Any], first: int = 0) -> Iterator[int]:
    """Yields the numbers of the steps, with a bar."""
    with bar(steps, "step") as shown:
        for number in range(first, first + steps):
            yield number
            shown.update()


def along(
    items: Iterable[Any], what: str, total: int, unit: str, shown: bool = True, delay: float = 0
) -> Iterable[Any]:
    """Yields the items, with a bar. delay: seconds before the bar appears, for work that is usually short."""
    return tqdm(items, what, total, unit=unit, delay=delay, **look(shown and total > 0))


def look(shown: bool) -> dict[str, Any]:
    """Returns tqdm's options. In a log, each state of a bar is a new line, so a bar prints one line every 30 s."""
    return {"disable": not shown, "mininterval": 0.5 if sys.stderr.isatty() else 30.0}


QUIET = bars("", shown=False)
