"""A training that was submitted to the cluster of tests."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from slurm.cluster import Cluster, wait_for

PATIENCE = 400  # seconds: two busy cores start two processes, compile and train


def lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def rows(run: Path) -> dict[int, dict[str, Any]]:
    """The metrics of a run, by step."""
    return {row["step"]: row for row in lines(run / "metrics.jsonl")}


class Job:
    def __init__(self, cluster: Cluster, number: int, run: Path) -> None:
        self.cluster, self.number, self.run = cluster, number, run

    def field(self, name: str) -> str:
        """A field of the job, as `scontrol` has it."""
        words = self.cluster.run("scontrol", "show", "job", self.number).split()
        return next(word for word in words if word.startswith(f"{name}=")).partition("=")[2]

    @property
    def state(self) -> str:
        return self.field("JobState")

    @property
    def restarts(self) -> int:
        """How often SLURM has requeued the job."""
        return int(self.field("Restarts"))

    @property
    def log(self) -> str:
        path = Path(self.field("StdOut"))
        return path.read_text(errors="replace") if path.exists() else ""

    def events(self, name: str) -> list[dict[str, Any]]:
        return [event for event in lines(self.run / "events.jsonl") if event["event"] == name]

    @property
    def starts(self) -> int:
        """How often training has begun."""
        return len(self.events("start")) + len(self.events("resume"))

    def wait(self, condition, seconds: float = PATIENCE) -> None:
        wait_for(condition, seconds, lambda: f"{self.state} {self.field('Reason')}\n{self.log[-5000:]}")

    def trains(self, starts: int = 1) -> None:
        """Waits until the run has made 20 steps since its start number `starts`, and there is a checkpoint."""
        self.wait(lambda: self.starts == starts)
        first = max(rows(self.run), default=0)
        self.wait(lambda: max(rows(self.run), default=0) > first + 20 and self.saved)

    @property
    def saved(self) -> int:
        """The step of the newest complete checkpoint, 0 without one."""
        names = [path.name for path in (self.run / "checkpoints").glob("*")]
        return max((int(name) for name in names if name.isdigit()), default=0)

    def update(self, **fields: object) -> None:
        changes = [f"{name}={value}" for name, value in fields.items()]
        self.cluster.run("scontrol", "update", f"JobId={self.number}", *changes)

    def requeued(self, **fields: object) -> int:
        """Waits until SLURM has requeued the job, changes `fields`, lets it begin at once, and returns its step."""
        self.wait(lambda: self.restarts == 1 and self.state == "PENDING")
        saved = self.saved
        time.sleep(3)  # slurmd refuses a job that starts in the second in which it was requeued (credential revoked)
        self.update(StartTime="now", **fields)
        return saved

    def task(self, index: int) -> int:
        """The process id of a task."""
        wanted = {f"SLURM_JOB_ID={self.number}", f"SLURM_PROCID={index}"}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                variables = set((path / "environ").read_text().split("\0"))
            except OSError:
                continue
            step = any(variable.startswith("SLURM_STEP_ID=") for variable in variables)
            if wanted <= variables and step and f"SLURM_TASK_PID={path.name}" in variables:
                return int(path.name)
        raise AssertionError(f"task {index} of job {self.number} does not run")

    def signal(self, index: int, number: signal.Signals) -> None:
        os.kill(self.task(index), number)

    def scancel(self, *options: str) -> None:
        self.cluster.run("scancel", *options, self.number)

    def end(self) -> None:
        """Cancels the job, if it has not ended."""
        self.scancel()
        self.wait(lambda: self.state not in ("PENDING", "RUNNING", "COMPLETING"))
