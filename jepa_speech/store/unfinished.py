"""STORE/work/plan.json: the plan of an unfinished store.

`work` is filled under a temporary name and then renamed. If another process was first, the rename fails, and both
processes follow that process's plan.
"""

import errno
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jepa_speech import ownership
from jepa_speech.errors import UserError
from jepa_speech.files import read_object, write_json
from jepa_speech.ingest.lengths import Lengths
from jepa_speech.lock import LOCK
from jepa_speech.store.checksums import compare_seal, sealed
from jepa_speech.store.description import store_info

Plan = dict[str, Any]
# The fields of plans in earlier versions, which wrote no `crc`.
OLDER = ("format", "codec", "inputs", "shard_mb", "read", "chunks", "parts", "max_rejects", "passed_over")

LATER = {"min_seconds": 0.0, "max_seconds": 0.0}  # fields that plans of earlier versions lack, with their values
# The files of a working folder.
NAMES = ("plan.json", "entries.jsonl", "part-*.jsonl", ".part-*-of-*.jepa-speech.lock")
NEW_WORK = re.compile(r"work\.[0-9a-f]{12}")


def find(store: Path) -> Path | None:
    """Returns store.json of a complete store, the plan of an unfinished one, or None for an empty or missing folder.

    Raises UserError if the folder holds anything else.
    """
    # The folder is listed first, because another process may start the store before the second line.
    names = sorted(path.name for path in store.iterdir()) if store.exists() else []
    found = next((path for path in (store / "store.json", store / "work" / "plan.json") if path.is_file()), None)
    strange = [name for name in names if name != LOCK and not NEW_WORK.fullmatch(name)]
    if strange and not found:
        raise UserError(f"{store}: not a store, as it holds {strange[0]}; choose a new folder")
    return found


@contextmanager
def new_work(store: Path) -> Iterator[Path]:
    """Makes a temporary working folder for `begin`, and removes it at the end if it still exists."""
    folder = ownership.make(store / f"work.{secrets.token_hex(6)}")
    try:
        yield folder
    finally:
        ownership.remove(folder, NAMES)


def tidy(store: Path) -> None:
    """Removes the working folders of a complete store. Only for a process that holds the store's lock alone."""
    for folder in _working(store):
        ownership.remove(folder, NAMES)


def untidy(store: Path) -> bool:
    """Whether a writable store has working folders for `tidy`."""
    return os.access(store, os.W_OK) and bool(_working(store))


def _working(store: Path) -> list[Path]:
    names = sorted(store.glob("work*"))
    return [path for path in names if path.name == "work" or NEW_WORK.fullmatch(path.name)]


def begin(
    store: Path, work: Path, identity: Plan, rest: Plan, emptied: Callable[[Plan], bool] = lambda plan: False
) -> Plan:
    """Starts the store with `work`, or resumes an existing one; returns the plan, or store.json if it is complete.

    An existing plan must have the same identity (otherwise UserError); its other fields are kept. emptied: called with
    a plan of another identity, removes its chunks if they have no recordings, and returns whether it did. The new plan
    then replaces the old one.
    """
    if find(store) is None:
        write_json(work / "plan.json", sealed(identity | rest))
        try:
            work.rename(store / "work")
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    found = find(store)
    assert found is not None
    before = read_plan(found)
    differs = [key for key, value in identity.items() if before.get(key, LATER.get(key)) != value]
    if differs and not (store / "store.json").is_file() and emptied(before):
        # The plan is written last, so that after a kill the next start comes here again.
        (work / "entries.jsonl").replace(store / "work" / "entries.jsonl")
        write_json(store / "work" / "plan.json", sealed(identity | rest))
        return identity | rest
    if differs:
        changed = "other inputs, or these before some changed"
        was = changed if differs[0] == "inputs" else f"another {differs[0]}"
        raise UserError(f"{store}: was prepared with {was}; remove it or choose another folder")
    return before


def lengths_of(plan: Plan) -> Lengths:
    """Returns the limits on the length of recordings."""
    found = LATER | plan
    return Lengths.of(found["min_seconds"], found["max_seconds"])


def read_plan(path: Path) -> Plan:
    """Returns the contents of a file returned by `find`. Raises UserError if it is damaged."""
    if path.name == "store.json":
        return store_info(path.parent)
    try:
        plan = read_object(path)
        compare_seal(plan, OLDER, str(path))
    except UserError as error:
        raise UserError(f"{error}; remove {path.parent.parent} and prepare it again") from error
    return plan
