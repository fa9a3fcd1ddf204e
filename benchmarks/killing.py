"""Kill a program with SIGKILL, and report its state afterwards: for chaos.py."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).parents[1]
STEPS = 60  # of a training
SAVE = "training, during a save"
LONG = 900.0  # seconds: what a process must not take


class Step(NamedTuple):
    """A step that is killed and repeated: its command for a folder, and its results there as comparable values."""

    command: Callable[[Path], list[str]]
    outcome: Callable[[Path], dict[str, Any]]
    processes: int = 1


def spawn(command: list[str], processes: int, folder: Path) -> list[subprocess.Popen]:
    """Starts a command as several processes of one job. Each has its own process group."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = []
    for index in range(processes):
        several = {
            "JEPA_SPEECH_COORDINATOR": f"127.0.0.1:{port}",
            "JEPA_SPEECH_PROCESSES": str(processes),
            "JEPA_SPEECH_PROCESS": str(index),
        }
        with (folder / f"said-{index}.txt").open("ab") as said:
            started.append(
                subprocess.Popen(
                    command,
                    env=os.environ | (several if processes > 1 else {}),
                    stdout=said,
                    stderr=said,
                    cwd=ROOT,
                    start_new_session=True,
                )
            )
    return started


def kill(process: subprocess.Popen) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def complete(step: Step, folder: Path) -> float:
    """Runs a step to the end; returns seconds. Raises RuntimeError, with the last lines, if an exit code is not 0."""
    began, started = time.monotonic(), spawn(step.command(folder), step.processes, folder)
    try:
        codes = [process.wait(LONG) for process in started]
    finally:
        for process in started:
            kill(process)
    if any(codes):
        said = (folder / f"said-{next(i for i, code in enumerate(codes) if code)}.txt").read_text(errors="replace")
        raise RuntimeError(f"exit codes {codes}: {said[-2000:]}")
    return time.monotonic() - began


def saving(folder: Path) -> Iterator[bool]:
    """Returns a function that says whether a checkpoint is being written."""
    while True:
        yield any("orbax-checkpoint-tmp" in path.name for path in (folder / "run" / "checkpoints").glob("*"))


def disturb(kind: str, step: Step, folder: Path, seconds: float, random: np.random.Generator) -> dict[str, Any]:
    """Starts a step and kills it; returns the moment of the kill and how the other processes ended."""
    began, started = time.monotonic(), spawn(step.command(folder), step.processes, folder)
    victim = started[int(random.integers(len(started)))]
    if kind == SAVE:
        wanted, busy, seen, before = int(random.integers(1, 8)), saving(folder), 0, False
        while seen < wanted and victim.poll() is None:
            now = next(busy)
            seen, before = seen + (now and not before), now
            time.sleep(0.0005)
        time.sleep(random.uniform(0, 0.02))
    elif kind == "training" and random.random() < 0.8:  # the rest also hits what comes before the first step
        goal = int(random.integers(STEPS))
        while rows_of(folder) < goal and victim.poll() is None:
            time.sleep(0.0005)
        time.sleep(random.uniform(0, 0.05))
    else:
        moment = random.uniform(0.0, seconds)
        while time.monotonic() - began < moment and victim.poll() is None:
            time.sleep(0.002)
    after, alive = time.monotonic() - began, victim.poll() is None
    mid_save = next(saving(folder))
    kill(victim)
    told = {"killed_after": round(after, 2), "killed": alive, "in_a_save": mid_save}
    if step.processes > 1:
        noticed = time.monotonic()
        told["survivors"] = [survivor(process) for process in started if process is not victim]
        told["noticed_after"] = round(time.monotonic() - noticed, 1)
    return told | {"rows": rows_of(folder)}


def rows_of(folder: Path) -> int:
    path = folder / "run" / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def survivor(process: subprocess.Popen) -> int | str:
    """Returns the exit code of a process whose peer was killed."""
    try:
        return process.wait(LONG)
    except subprocess.TimeoutExpired:
        kill(process)
        return "hung"
