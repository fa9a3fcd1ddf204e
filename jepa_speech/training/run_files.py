"""Check the files of a run folder before a run resumes. A damaged file is refused, with what to do."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jepa_speech import checked
from jepa_speech.errors import UserError
from jepa_speech.files import parse_json
from jepa_speech.training.ledger import WAITS

NUMBERS = (int, float)
FIELDS = {  # name of an event -> fields that must hold a number
    "start": ("step",),
    "resume": ("step",),
    "save": ("step",),
    "steps": ("after", "to", "seconds"),
}


def whole_rows(path: Path, step: int) -> Iterator[bytes]:
    """Yields the lines of metrics.jsonl of the steps 1 to `step`, unchanged.

    Raises UserError if one of them is missing, out of order or damaged. At step 0 only the first line is checked, which
    must be a row of a run.
    """
    fix = "restore it from a copy (docs/training.md: Missing or damaged parts), or use another --workdir"
    if not path.exists():
        if step:
            raise UserError(f"{path} is missing, and with it the rows of steps 1 to {step}; {fix}")
        return
    with path.open("rb") as file:
        for number in range(1, step + 1):
            line = file.readline()
            if not line.endswith(b"\n"):
                raise UserError(f"{path} ends before the row of step {number}, and the checkpoint is of {step}; {fix}")
            if (found := _step_of(line, f"{path}:{number}", fix)) != number:
                raise UserError(f"{path}:{number} holds step {found}, not {number}: rows are missing; {fix}")
            yield line
        if not step and (line := file.readline()).endswith(b"\n"):
            _step_of(line, f"{path}:1", "use another --workdir, or move that file away")


def _step_of(line: bytes, where: str, fix: str) -> int:
    """Returns the step of a row. Raises UserError unless the line has a step, and otherwise numbers or null."""
    try:
        row = parse_json(line, where)
        step = checked.field(row, "step", int, where)
        for name, value in row.items():
            if value is not None and type(value) not in NUMBERS:
                raise UserError(f"{where}: {name} = {value!r}: expected a number or null")
    except UserError as error:
        raise UserError(f"{error}; {fix}") from error
    return step


def whole_events(path: Path) -> list[dict[str, Any]]:
    """Returns the events of a ledger, [] if the file does not exist. A torn last line, which a kill leaves, is skipped.

    Raises UserError with the number of the line if another line is damaged.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    return [_event(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]


def _event(line: bytes, where: str) -> dict[str, Any]:
    try:
        event = parse_json(line, where)
        checked.field(event, "time", NUMBERS, where)
        for name in FIELDS.get(checked.field(event, "event", str, where), ()):
            checked.field(event, name, NUMBERS, where)
        if "began" in event:  # events of earlier versions
            checked.field(event, "began", NUMBERS, where)
            checked.field(event, "seconds", NUMBERS, where, least=0)
            checked.field(event, "lost_steps", NUMBERS, where, least=0)
            if event.get("alive") is not None:
                checked.field(event, "alive", NUMBERS, where)
            for name in ("devices", "cores"):
                checked.field(event, name, int, where, default=1, least=1)
        if event["event"] == "steps":
            for name in ("seconds", *WAITS):
                checked.field(event, name, NUMBERS, where, default=0.0, least=0)
    except UserError as error:
        raise UserError(
            f"{error}; the ledger is damaged: repair or remove that line, which training does not need"
        ) from error
    return event


def cut_torn_line(path: Path) -> None:
    """Removes what follows the last whole line."""
    text = path.read_bytes() if path.exists() else b""
    if text and not text.endswith(b"\n"):
        os.truncate(path, text.rfind(b"\n") + 1)


def check_ledger(workdir: Path, events: Sequence[Mapping[str, Any]], step: int, digest: str) -> None:
    """Raises UserError if the ledger does not fit the rows up to `step`, or names checkpoints that do not exist.

    digest: SHA-256 of the rows up to `step`.
    """
    written = [
        event["rows"] for event in events if event["event"] == "save" and event["step"] == step and "rows" in event
    ]
    if step and written and written[-1] != digest:
        raise UserError(
            f"{workdir / 'metrics.jsonl'}: its rows up to step {step} were altered (their SHA-256 "
            "differs from the one in events.jsonl); restore both files, or use another --workdir"
        )
    if not step and had_checkpoint(events):
        raise UserError(
            f"{workdir}: events.jsonl names checkpoints, but there is none in checkpoints/; restore them, or use "
            "another --workdir"
        )


def had_checkpoint(events: Sequence[Mapping[str, Any]]) -> bool:
    """Returns whether a complete checkpoint ever existed. The first of two saves in a row, for example, is complete."""
    saves = 0
    for event in events:
        if event["event"] in ("interrupted", "done") or (event["event"] == "resume" and event["step"]):
            return True
        saves = 0 if event["event"] in ("start", "resume") else saves + (event["event"] == "save")
        if saves > 1:
            return True
    return False
