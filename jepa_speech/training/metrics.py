"""The files metrics.jsonl (a function of config and step alone) and events.jsonl (times) of a run, and its bar."""

import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tqdm import tqdm

from jepa_speech.progress import Say, silent
from jepa_speech.training.chips import Chip
from jepa_speech.training.run_files import check_ledger, cut_torn_line, whole_events, whole_rows


class RunLog:
    """Appends to the files of a run folder, and first cuts rows past `step`, which a killed process left.

    Process 0 writes metrics.jsonl and events.jsonl. Any other process writes only events-<process>.jsonl.

    say: called with a line if events.jsonl is missing.

    lost_steps: the number of rows that were cut. alive: Unix time of the last of them; None if no row was cut.
    earlier: the event with which the process before this one began; {} if there is none.
    """

    def __init__(self, workdir: Path, step: int, process: int = 0, say: Say = silent) -> None:
        self.path, self.step = workdir / "metrics.jsonl", step
        self.lost_steps, self.written = 0, hashlib.sha256()
        self.alive: float | None = None
        self.metrics = None
        kept = 0
        for line in whole_rows(self.path, step):
            kept += len(line)
            self.written.update(line)
        ledger = workdir / ("events.jsonl" if process == 0 else f"events-{process}.jsonl")
        events = whole_events(ledger)
        self.before = events[-1]["time"] if events else 0.0
        starts = [event for event in events if event["event"] in ("start", "resume")]
        self.earlier: dict[str, Any] = starts[-1] if starts else {}
        if process == 0:  # check everything before anything is written
            check_ledger(workdir, events, step, self.digest)
            if step and not ledger.exists():
                say(f"{ledger} is missing: the times up to step {step} are lost; training continues")
            self._cut(kept)
            self.metrics = self.path.open("a", encoding="utf-8")
        cut_torn_line(ledger)
        self.events = ledger.open("a", encoding="utf-8")

    def _cut(self, kept: int) -> None:
        """Cuts what follows the first `kept` bytes of metrics.jsonl."""
        if not self.path.exists() or self.path.stat().st_size == kept:
            return
        with self.path.open("rb") as file:
            file.seek(kept)
            self.lost_steps = file.read().count(b"\n")
        self.alive = round(self.path.stat().st_mtime, 3)
        os.truncate(self.path, kept)

    @property
    def digest(self) -> str:
        """Returns the SHA-256 of the rows so far. Save events hold it, so that a later start can check the rows."""
        return self.written.hexdigest()

    def past(self) -> Iterator[dict[str, Any]]:
        """Yields the rows up to the step from which this process resumes."""
        if self.step:
            with self.path.open("rb") as file:
                yield from map(json.loads, islice(file, self.step))

    @property
    def last(self) -> dict[str, Any]:
        """Returns the row of the step from which this process resumes, {} for a new run."""
        *_, last = [{}, *self.past()]
        return last

    def row(self, number: int, values: Mapping[str, float]) -> None:
        """Writes the metrics of step `number`, null for those that are not finite."""
        if self.metrics is None:
            return
        clean = {name: value if math.isfinite(value) else None for name, value in values.items()}
        line = json.dumps({"step": number} | clean) + "\n"
        self.written.update(line.encode())
        self.metrics.write(line)
        self.metrics.flush()  # A kill of this process then loses no row, so the next one can count the lost steps.

    def event(self, name: str, **fields: Any) -> None:
        """Writes an event with the time."""
        self.events.write(json.dumps({"time": round(time.time(), 3), "event": name} | fields) + "\n")
        self.events.flush()

    def begin(
        self, step: int, began: float, places: Mapping[str, int], notes: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        """Writes the first event of a process that started at `began` (Unix time), with `places` and `notes`."""
        now = time.time()
        began = min(now, max(began, self.before, self.alive or 0))  # several runs of one process do not overlap
        self.event(
            "resume" if step else "start",
            step=step,
            **places,
            began=round(began, 3),
            seconds=round(now - began, 3),
            lost_steps=self.lost_steps,
            alive=self.alive,
            **notes,
        )

    def sync(self) -> None:
        """Flushes the rows to disk. The loop does so before each checkpoint, which then never lacks its rows."""
        if self.metrics is not None:
            os.fsync(self.metrics.fileno())

    def close(self) -> None:
        self.events.close()
        if self.metrics is not None:
            self.metrics.close()


class Rates:
    """The speed of the run since the last report, over the whole wall time."""

    def __init__(self, devices: int, chip: Chip | None) -> None:
        """chip: the kind of the devices; None if their peak FLOP/s are unknown, as on a CPU."""
        self.devices, self.chip = devices, chip
        self.restart()

    def restart(self) -> None:
        self.began, self.fetching, self.decoding = time.monotonic(), 0.0, 0.0
        self.audio_seconds, self.flops = 0.0, 0

    def add(self, waited: tuple[float, float], audio_seconds: float, flops: int) -> None:
        """Adds a step.

        waited: seconds of waiting for shards to be fetched, and for the batch to be decoded. audio_seconds: of the
        global batch. flops: `Cost.model_flops` of the step.
        """
        self.fetching += waited[0]
        self.decoding += waited[1]
        self.audio_seconds += audio_seconds
        self.flops += flops

    def look(self) -> dict[str, float]:
        """Returns the rates by name.

        Audio-seconds per second and audio hours per device and hour, both without padding; the model's FLOP/s on all
        devices, with padding; these as a share of the chips' peak by data sheet (`mfu`, if the chip is known); and the
        shares of time spent waiting for shards to be fetched (0 for local stores) and for batches to be decoded.
        """
        elapsed = max(time.monotonic() - self.began, 1e-9)
        found = {
            "audio_seconds_per_second": round(self.audio_seconds / elapsed, 2),
            "fetch_wait_share": round(self.fetching / elapsed, 4),
            "data_wait_share": round(self.decoding / elapsed, 4),
            "audio_hours_per_device_hour": round(self.audio_seconds / elapsed / self.devices, 2),
            "flops_per_second": round(self.flops / elapsed),
        }
        if self.chip:
            found["mfu"] = round(self.flops / elapsed / (self.devices * self.chip.flops), 4)
        return found


class Bar:
    """The progress bar, if it is `shown`: loss terms and λ, speed, shares of time waiting for data, time left."""

    def __init__(self, step: int, steps: int, shown: bool) -> None:
        interval = 0.2 if sys.stderr.isatty() else 30.0  # a log file needs no animation
        self.bar = tqdm(
            disable=not shown, total=steps, initial=step, unit="step", mininterval=interval, dynamic_ncols=True
        )

    def show(self, terms: Mapping[str, float], rates: Mapping[str, float]) -> None:
        words = [f"{'λ' if name == 'lambda' else name} {value:.3g}" for name, value in terms.items()]
        words.append(f"{rates['audio_seconds_per_second']:.0f} audio-s/s")
        words.append(f"{rates['flops_per_second'] / 1e12:.3g} TFLOP/s")
        if "mfu" in rates:
            words.append(f"MFU {rates['mfu']:.0%}")
        if rates["fetch_wait_share"]:
            words.append(f"fetch wait {rates['fetch_wait_share']:.0%}")
        words.append(f"data wait {rates['data_wait_share']:.0%}")
        self.bar.set_postfix_str(", ".join(words), refresh=False)
        self.bar.update()

    def leave_out(self, seconds: float) -> None:
        """Excludes the last `seconds`, in which something else was done, from the rate and the time left."""
        if not self.bar.disable:
            self.bar.start_t += seconds
            self.bar.last_print_t += seconds

    def say(self, line: str) -> None:
        """Prints a line above the bar, if there is one."""
        if not self.bar.disable:
            self.bar.write(line, file=sys.stderr)

    def close(self) -> None:
        self.bar.close()
