"""A row of the table: two programs that do the same work, timed in turns of one run, and the ratio per turn."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True)
class Row:
    """ours, theirs: what each turn gave, (turns,) in `unit`.

    figure: what is made of a turn's pair, and how it is to be read:
    `times`: how many times as fast ours is; the goal is at least that
    `share`: which part of ours is not in theirs, for work that one has and the other lacks; at most
    `growth`: what grew by ours where it was predicted to grow by theirs, ours over theirs; at most
    note: what a reader has to know of the comparison.
    """

    what: str
    peer: str
    ours: list[float]
    theirs: list[float]
    unit: str = "s"
    figure: Literal["times", "share", "growth"] = "times"
    goal: float | None = None
    note: str = ""

    @property
    def ratios(self) -> np.ndarray:
        """(turns,)"""
        ours, theirs = np.array(self.ours), np.array(self.theirs)
        if self.figure == "share":
            return 1 - theirs / ours
        slower_is_more = self.unit in ("s", "ms") and self.figure == "times"
        return theirs / ours if slower_is_more else ours / theirs

    def report(self) -> dict[str, Any]:
        ratios = self.ratios
        spread = {"median": float(np.median(ratios)), "low": float(ratios.min()), "high": float(ratios.max())}
        return asdict(self) | {"ratios": ratios.tolist(), **spread}

    def cells(self) -> tuple[str, ...]:
        """Returns the row of the table: name, ours, the peer, the ratio with its range over turns, the goal."""
        found = self.report()
        shown, aim = ("{:.1%}", "{:.0%}") if self.figure == "share" else ("{:.2f}", "{:g}")
        median, low, high = (shown.format(found[name]) for name in ("median", "low", "high"))
        sign = "≥" if self.figure == "times" else "≤"
        goal = "" if self.goal is None else f"{sign} {aim.format(self.goal)}"
        ours, theirs = (f"{amount(float(np.median(x)))}{self.suffix}" for x in (self.ours, self.theirs))
        return self.what, ours, f"{self.peer}: {theirs}", f"{median} [{low}, {high}] of {len(self.ours)}", goal

    @property
    def suffix(self) -> str:
        return f" {self.unit}" if self.unit else " times"


def amount(x: float) -> str:
    """Formats a number with three digits and without an exponent."""
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def seconds(run: Callable[[], object]) -> float:
    """By the clock."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def alternate(runs: Mapping[str, Callable[[], object]], turns: int, warm: bool = True) -> dict[str, list[float]]:
    """Returns the seconds of each of `runs` in each turn, one after the other, so that a varying load affects all.

    warm: each runs once before the first turn, so that nothing is compiled within one.
    """
    if warm:
        for run in runs.values():
            run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(turns):
        for name, run in runs.items():
            times[name].append(seconds(run))
    return times
