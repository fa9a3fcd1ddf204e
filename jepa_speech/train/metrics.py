"""What a run writes down: metrics.jsonl (a function of config and step alone), events.jsonl (times), plots, a bar."""

import json
import math
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter
from tqdm import tqdm

from jepa_speech.files import write_text


class RunLog:
    """Appends to the files of a run folder. Rows past `step`, which a kill left over, are cut first."""

    def __init__(self, workdir: Path, step: int) -> None:
        path = workdir / "metrics.jsonl"
        if path.exists():
            write_text(path, rows_up_to(path, step))
        self.metrics = path.open("a", encoding="utf-8")
        self.events = (workdir / "events.jsonl").open("a", encoding="utf-8")
        # What was written past `step` is hidden by the purge, as TensorBoard has it.
        self.board = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1 if step else None)

    def row(self, number: int, values: Mapping[str, float], plotted: bool) -> None:
        """Metrics of the step that led to update `number`."""
        clean = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self.metrics.write(json.dumps({"step": number} | clean) + "\n")
        if plotted:
            self.plot(number, values)

    def plot(self, number: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            if name != "epoch":
                self.board.add_scalar(name, value, number)

    def event(self, name: str, **fields: Any) -> None:
        self.events.write(json.dumps({"time": round(time.time(), 3), "event": name} | fields) + "\n")
        self.events.flush()

    def sync(self) -> None:
        """Rows so far are on disk when this returns: a checkpoint never runs ahead of its metrics."""
        self.metrics.flush()
        os.fsync(self.metrics.fileno())

    def close(self) -> None:
        with suppress(OSError):  # plots can be drawn again from metrics.jsonl
            self.board.close()
        self.events.close()
        self.metrics.close()


def rows_up_to(path: Path, step: int) -> str:
    """The lines of a metrics file up to `step`, unchanged; a torn last line is left out."""
    kept = []
    with path.open(encoding="utf-8") as file:
        for line in file:
            if not line.endswith("\n") or json.loads(line)["step"] > step:
                break
            kept.append(line)
    return "".join(kept)


class Rates:
    """Audio-seconds per second and the share of time spent waiting for data, since the last look."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.began, self.waited, self.audio_seconds = time.monotonic(), 0.0, 0.0

    def add(self, waited: float, audio_seconds: float) -> None:
        self.waited += waited
        self.audio_seconds += audio_seconds

    def look(self) -> dict[str, float]:
        elapsed = max(time.monotonic() - self.began, 1e-9)
        return {
            "audio_seconds_per_second": round(self.audio_seconds / elapsed, 2),
            "data_wait_share": round(self.waited / elapsed, 4),
        }


class Bar:
    """The progress bar: loss terms and λ, speed, share of time waiting for data, time left."""

    def __init__(self, step: int, steps: int) -> None:
        interval = 0.2 if sys.stderr.isatty() else 30.0  # a log file needs no animation
        self.bar = tqdm(total=steps, initial=step, unit="step", mininterval=interval, dynamic_ncols=True)

    def show(self, terms: Mapping[str, float], rates: Mapping[str, float]) -> None:
        words = [f"{'λ' if name == 'lambda' else name} {value:.3g}" for name, value in terms.items()]
        words.append(f"{rates['audio_seconds_per_second']:.0f} audio-s/s")
        words.append(f"data wait {rates['data_wait_share']:.0%}")
        self.bar.set_postfix_str(", ".join(words), refresh=False)
        self.bar.update()

    def say(self, line: str) -> None:
        """A line above the bar."""
        self.bar.write(line, file=sys.stderr)

    def close(self) -> None:
        self.bar.close()
