"""`jepa-speech goodput`: where the wall time of a run went, over all its attempts."""

import argparse
from pathlib import Path
from typing import Any

from jepa_speech.errors import UserError
from jepa_speech.train.ledger import goodput
from jepa_speech.train.run_files import whole_events
from jepa_speech.wording import counted

HELP = "where the wall time of a run went: steps, compiling, waiting, lost work, down time"
EXAMPLE = "jepa-speech goodput runs/smoke --json goodput.json"
WORDS = {
    "step": "productive steps",
    "data_wait": "waiting for data",
    "compile": "compiling",
    "checkpoint": "saving",
    "init": "starting up",
    "lost": "lost work",
    "down": "down between attempts",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workdir", metavar="RUN", help="a run folder")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Prints the table; returns what `ledger.goodput` does. Raises UserError where there is no ledger."""
    path = Path(args.workdir) / "events.jsonl"
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    events = whole_events(path)
    found = goodput(events)
    if first := next(event["step"] for event in events if event["event"] in ("start", "resume")):
        print(f"{path} begins at step {first}: earlier steps are not counted")
    wall = max(found["wall"], 1e-9)
    for part, words in WORDS.items():
        print(f"{words:<22}{found['seconds'][part]:>12.1f} s{found['seconds'][part] / wall:>8.1%}")
    print(f"{'wall time':<22}{found['wall']:>12.1f} s")
    attempts, lost = counted(found["attempts"], "attempt"), counted(found["lost_steps"], "step")
    print(f"{attempts}, {lost} lost, now at step {found['step']}")
    return found
