"""`jepa-speech goodput`: where the wall time of a run went, over all its attempts."""

import argparse
from typing import Any

from jepa_speech.api.goodput import goodput
from jepa_speech.local_paths import path_or_bucket
from jepa_speech.wording import counted

HELP = "where the wall time of a run went: steps, waiting, compiling, held-out losses, probes, lost work, down time"
EXAMPLE = "jepa-speech goodput runs/smoke --json goodput.json"
WORDS = {
    "step": "productive steps",
    "fetch_wait": "waiting for shards",
    "data_wait": "waiting for data",
    "compile": "compiling",
    "evaluation": "held-out loss",
    "probe": "probing",
    "checkpoint": "saving",
    "init": "starting up",
    "lost": "lost work",
    "down": "down between attempts",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workdir", type=path_or_bucket, metavar="RUN", help="a run folder")


def run(options: argparse.Namespace) -> dict[str, Any]:
    found = goodput(options.workdir)
    if first := found["first_step"]:
        print(f"{options.workdir}/events.jsonl begins at step {first}: earlier steps are not counted")
    wall = max(found["wall"], 1e-9)
    for part, words in WORDS.items():
        print(f"{words:<22}{found['seconds'][part]:>12.1f} s{found['seconds'][part] / wall:>8.1%}")
    print(f"{'wall time':<22}{found['wall']:>12.1f} s")
    attempts, lost = counted(found["attempts"], "attempt"), counted(found["lost_steps"], "step")
    print(f"{attempts}, {lost} lost, now at step {found['step']}")
    return found
