"""Verbs of this program one after the other, each in a process of its own; what was done is not done again."""

import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jepa_speech.errors import Interrupted, UserError
from jepa_speech.files import read_json, write_json


class Road:
    """Runs verbs by the commands that it prints; FOLDER/done remembers which are done, and their results.

    A step is done again if its command is another one, if a step before it was done again, or one of the roads that
    this one comes `after`. `steps` holds what was gone so far: name, command, seconds and results of each.
    """

    def __init__(self, folder: Path, after: Sequence["Road"] = ()) -> None:
        self.folder, self.done = folder, folder / "done"
        self.steps: list[dict[str, Any]] = []
        self.changed = any(road.changed for road in after)

    def go(self, *arguments: Any) -> dict[str, Any]:
        """`jepa-speech ARGUMENTS`, unless it is done; returns its results. Raises UserError if it fails."""
        command = [str(argument) for argument in arguments]
        shown = shlex.join(["jepa-speech", *command])
        record = self.done / f"{len(self.steps)}-{command[0]}.json"
        step = read_json(record) if record.is_file() and not self.changed else {}
        print(f"\n$ {shown}", flush=True)
        if step.get("command") == shown:
            print("done before", flush=True)
        else:
            self.changed = True
            step = {"name": record.stem, "command": shown, **execute(command, record.with_suffix(".results"))}
            write_json(record, step)
        self.steps.append(step)
        return step["results"]


def execute(command: Sequence[str], results: Path) -> dict[str, Any]:
    """Runs a verb in a process of its own; returns its results and how long it took."""
    results.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with subprocess.Popen([sys.executable, "-m", "jepa_speech", *command, "--json", str(results)]) as verb:
        code = outlast(verb)
    if code in (130, -signal.SIGINT):
        raise KeyboardInterrupt
    if code == Interrupted.exit_code:
        raise Interrupted("stopped, and saved: run the same command to go on")
    if code:
        raise UserError(f"the step above failed with exit code {code}; run the same command to go on from there")
    found = {"seconds": time.monotonic() - began, "results": read_json(results)}
    results.unlink()
    return found


def outlast(verb: subprocess.Popen) -> int:
    """Waits for the verb, however often Ctrl-C is pressed (it hears it too, and may be saving); passes SIGTERM on."""
    before = signal.signal(signal.SIGTERM, lambda *_: verb.terminate())
    try:
        while True:
            try:
                return verb.wait()
            except KeyboardInterrupt:
                continue
    finally:
        signal.signal(signal.SIGTERM, before)
