"""The wall time of a run by what it was spent on. The loop writes it to events.jsonl, and `goodput` adds it up.

    start, resume   began (Unix time of the process's start), seconds (from there to the first batch), lost_steps, alive
    compile         step, seconds: of the first call with a new batch shape
    steps           after, to, seconds, and how many of these were waited for shards to be fetched and for batches to be
                    decoded, compiling, evaluating, probing and saving

The `steps` of an attempt join each other without gaps, and end at each report and each save.
"""

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jepa_speech.errors import UserError

# What the loop spends time on, other than steps. data_wait: waiting for batches whose shards were in the cache.
WAITS = ("fetch_wait", "data_wait", "compile", "evaluation", "probe", "checkpoint")
PARTS = ("step", *WAITS, "init", "lost", "down")


class Clock:
    """Counts the seconds since the last `cut` by what they were spent on. The rest of the time is that of steps."""

    def __init__(self, step: int) -> None:
        self.step, self.began, self.spent = step, time.monotonic(), dict.fromkeys(WAITS, 0.0)

    def since(self, what: str, began: float) -> float:
        """Adds the seconds from `began` (of time.monotonic) until now to `what`, and returns them."""
        seconds = time.monotonic() - began
        self.spent[what] += seconds
        return seconds

    def waited(self, asked: float, fetching: float) -> tuple[float, float]:
        """Adds a wait for a batch, from `asked` until now, of which `fetching` seconds were waited for its shards.

        Returns both parts: seconds of fetching, and of decoding.
        """
        seconds = time.monotonic() - asked
        fetching = min(fetching, seconds)
        self.spent["fetch_wait"] += fetching
        self.spent["data_wait"] += seconds - fetching
        return fetching, seconds - fetching

    def cut(self, step: int) -> dict[str, Any]:
        """Returns the fields of an event `steps` that ends with `step`, and starts counting anew."""
        now = time.monotonic()
        fields = {"after": self.step, "to": step, "seconds": now - self.began} | self.spent
        self.step, self.began, self.spent = step, now, dict.fromkeys(WAITS, 0.0)
        return {name: round(value, 4) for name, value in fields.items()}


def process_began() -> float:
    """Returns the Unix time of this process's start, to 0.01 s, or the present time on systems without /proc."""
    stat, uptime = Path("/proc/self/stat"), Path("/proc/uptime")
    if not stat.exists():
        return time.time()
    ticks = int(stat.read_text().rpartition(")")[2].split()[19])  # field 22, since boot
    return time.time() - (float(uptime.read_text().split()[0]) - ticks / os.sysconf("SC_CLK_TCK"))


def goodput(events: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns seconds by part, their sum `wall` (from the start of the first process to the last event), and counts.

    `step` is the time of steps that the run still has. `lost` is the time of steps that were computed again later, and
    the time between the last event of a killed process and its last row. `down` is the time between processes.
    Raises UserError if `events` holds no attempt.
    """
    attempts = split(list(events))
    if not attempts:
        raise UserError("events.jsonl has no times: an older version wrote it, or nothing was trained")
    seconds, lost_steps = dict.fromkeys(PARTS, 0.0), 0
    for number, attempt in enumerate(attempts):
        first, later = attempt[0], attempts[number + 1 :]
        cut = min((after[0]["step"] for after in later), default=float("inf"))  # steps past it were computed again
        seconds["init"] += first["seconds"]
        spans = [event for event in attempt if event["event"] == "steps"]
        for span in spans:
            waits = {name: span.get(name, 0.0) for name in WAITS}
            for name in ("compile", "evaluation", "probe", "checkpoint"):
                seconds[name] += waits[name]
            rest = span["seconds"] - sum(waits.values())
            for name in ("fetch_wait", "data_wait"):
                seconds["lost" if span["to"] > cut else name] += waits[name]
            seconds["lost" if span["to"] > cut else "step"] += rest
        counted = first["began"] + first["seconds"] + sum(span["seconds"] for span in spans)
        end = max(counted, attempt[-1]["time"])
        if later:
            following = later[0][0]
            alive = min(max(end, following.get("alive") or 0), following["began"])
            seconds["down"] += following["began"] - alive
            end = alive
            lost_steps += following["lost_steps"]
        seconds["lost"] += end - counted
    wall = sum(seconds.values())
    return {
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "wall": round(wall, 2),
        "goodput": round(seconds["step"] / wall, 4) if wall else 0.0,
        "attempts": len(attempts),
        "lost_steps": lost_steps,
        "step": max((event["to"] for a in attempts for event in a if event["event"] == "steps"), default=0),
    }


def split(events: list[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Returns the events of each attempt. The first of them is its `start` or `resume`."""
    attempts: list[list[Mapping[str, Any]]] = []
    for event in events:
        if event["event"] in ("start", "resume") and "began" in event:
            attempts.append([])
        if attempts:
            attempts[-1].append(event)
    return attempts
