"""Time from the start of a process to its first step, with and without the compilation cache of an earlier start."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from rows import made
from rows.race import Row

from jepa_speech.store.prepare import prepare
from jepa_speech.training.compiled import CACHE_VARIABLE

PEERS = ()


def first_step(run: Path, command: list[str], environment: dict[str, str]) -> float:
    """Seconds from the process's start until the figures of its first step were on the host, as events.jsonl tells."""
    shutil.rmtree(run, ignore_errors=True)
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    events = [json.loads(line) for line in (run / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    began = next(event["began"] for event in events if event["event"] == "start")
    return next(event["time"] for event in events if event["event"] == "steps" and event["to"] == 1) - began


def rows(quick: bool, work: Path, data: Path | None) -> list[Row]:
    config, turns = ("tiny.py", 1) if quick else ("smoke.py", 4)
    seconds = (1.0, 1.2) if quick else (4.0, 6.0)  # of the last bucket, so that the first batch has its shape
    prepare([made.recordings(work / "recordings", 8, seconds)], work / "store", "pcm16", workers=1)
    made.anchor(16 if quick else 256).save(work / "anchor.npz")
    run = work / "run"
    command = [sys.executable, "-m", "jepa_speech", "train", "--config", str(made.CONFIGS / config)]
    command += ["--workdir", str(run), f"--config.data.store={work / 'store'}", "--config.train.steps=1"]
    command += [f"--config.anchor.path={work / 'anchor.npz'}", "--config.anchor.source=online"]
    outside = {name: value for name, value in os.environ.items() if name != CACHE_VARIABLE}
    outside["XDG_CACHE_HOME"] = str(work / "cache")
    environments = {"with": outside, "without": outside | {CACHE_VARIABLE: ""}}
    first_step(run, command, environments["with"])  # fills the cache
    times: dict[str, list[float]] = {name: [] for name in environments}
    for _ in range(turns):
        for name, environment in environments.items():
            times[name].append(first_step(run, command, environment))
    note = "the cache is the one that `train` kept from an earlier start of this run; both times include imports"
    what = f"process start to first step, configs/{config}, warm compilation cache"
    return [Row(what, "itself without cache", times["with"], times["without"], goal=3.0, note=note)]
