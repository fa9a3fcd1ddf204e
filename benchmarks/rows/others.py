"""The share of the cores that other programs took during a measurement.

Other programs slow down most those programs whose threads wait for each other.
"""

import os
import resource
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

QUIET = 0.05  # of the cores
STAT = Path("/proc/stat")


def busy(cores: Iterable[int]) -> float:
    """Return the seconds of work that these cores have done since boot, for all programs."""
    names, total = {f"cpu{core}" for core in cores}, 0
    for line in STAT.read_text(encoding="utf-8").splitlines():
        name, *ticks = line.split()
        if name in names:
            spent = list(map(int, ticks[:8]))  # user, nice, system, idle, waiting, irq, softirq, steal
            total += sum(spent) - spent[3] - spent[4]
    return total / os.sysconf("SC_CLK_TCK")


def own() -> float:
    """Return the seconds of processor time of this process and of its children that have ended."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


class Others:
    """`share()` returns the share of the cores, 0 to 1, that other programs took since construction."""

    def __init__(self, cores: Iterable[int]) -> None:
        self.cores = list(cores)
        self.began, self.busy, self.own = time.monotonic(), busy(self.cores), own()

    def share(self) -> float:
        there = len(self.cores) * (time.monotonic() - self.began)
        return max(0.0, busy(self.cores) - self.busy - (own() - self.own)) / there


def verdict(shares: dict[str, Any]) -> str:
    """Return the largest share in words. Do not quote a table that was measured beside other programs."""
    worst = max(shares, key=shares.get)
    if shares[worst] <= QUIET:
        return f"other programs took at most {shares[worst]:.1%} of the cores"
    taken = f"other programs took {shares[worst]:.0%} of the cores ({worst})"
    return f"NOT QUIET: {taken}, so measure again before quoting this"
