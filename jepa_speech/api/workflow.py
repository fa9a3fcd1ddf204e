"""Verbs of this program one after the other, each in a process of its own; what was done is not done again."""

import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from jepa_speech import checked
from jepa_speech.errors import Interrupted, UserError
from jepa_speech.files import read_json, read_object, write_json
from jepa_speech.ingest.inputs.folder import MANIFESTS, is_hidden
from jepa_speech.ingest.manifest import entries
from jepa_speech.ownership import claim, mark
from jepa_speech.probing.splits import NAMES

KALDI = "wav.scp"  # names the recordings of its folder
LISTS = (KALDI, *MANIFESTS, ".json", ".list", ".tar", ".parquet")
SPLIT = re.compile(rf"(?:.*\.)?(?:{'|'.join(NAMES.values())})")
Results = dict[str, Any]


class Workflow:
    """Runs verbs, each by its command; FOLDER/done remembers which are done, and their results.

    A step runs again if its command, its inputs or its outputs changed, or if an earlier step or a workflow in `after`
    ran again with other results. `steps` holds the steps so far: name, command, seconds and results of each.
    root: see `ingest.manifest.entries`.
    log: a file that gets the commands and all that they print; None: they are shown (the commands on stderr).
    """

    def __init__(
        self, folder: Path, after: Sequence["Workflow"] = (), root: str | Path | None = None, log: Path | None = None
    ) -> None:
        self.folder, self.done, self.root, self.log = folder, folder / "done", root, log
        self.steps: list[dict[str, Any]] = []
        self.changed: bool = any(flow.changed for flow in after)

    def go(
        self,
        *arguments: Any,
        reads: Iterable[Path] = (),
        given: Any = None,
        makes: Callable[[Results], Iterable[Path]] | None = None,
    ) -> Results:
        """Runs `jepa-speech ARGUMENTS` unless it is done, and returns its results. Raises UserError if it fails.

        reads: files and folders that no step makes. given: what else the results depend on, as JSON. makes: what the
        step writes, by its results. Without it the verb always runs, because the workflow cannot know whether it is
        done: leave it out for verbs that check that themselves.
        """
        command = [str(argument) for argument in arguments]
        shown = shlex.join(["jepa-speech", *command])
        record = self.done / f"{len(self.steps)}-{command[0]}.json"
        before = done_before(record)
        there = json.dumps([state(files_of(reads, self.root)), given], sort_keys=True)
        inputs = hashlib.sha256(there.encode()).hexdigest()
        self.say(f"\n$ {shown}")
        same = before.get("command") == shown and before.get("inputs") == inputs and not self.changed
        if same and makes and before.get("outputs") == state(makes(before["results"])):
            self.say("done before")
            step = before
        else:
            step = {"name": record.stem, "command": shown, **execute(command, record.with_suffix(".results"), self.log)}
            step |= {"inputs": inputs, "outputs": state(makes(step["results"]) if makes else ())}
            if same and all(step[key] == before.get(key) for key in ("results", "outputs")):
                step["seconds"] = before["seconds"]  # there was nothing to do
            else:
                self.changed = True
            write_json(record, step)
        self.steps.append(step)
        return step["results"]

    def say(self, line: str) -> None:
        """Prints a line to the log, or to stderr if there is none."""
        if self.log is None:
            print(line, file=sys.stderr, flush=True)
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"{line}\n")


def done_before(record: Path) -> dict[str, Any]:
    """What a record says of a step; of a missing one, that no command was done. Raises UserError if it is damaged."""
    if not record.exists():
        return {"command": ""}
    try:
        before = read_object(record)
        for name, kind in (("command", str), ("results", dict), ("seconds", (int, float))):
            checked.field(before, name, kind, str(record))
    except UserError as error:
        raise UserError(f"{error}; remove it to do that step again, or choose another out") from error
    return before


def state(files: Iterable[Path]) -> list[list[Any]]:
    """[path, bytes, time of change in ns] of each file; [path] of one that is not there."""
    found: list[list[Any]] = []
    for file in sorted(set(files)):
        try:
            about = file.stat()
        except OSError:
            found.append([str(file)])
        else:
            found.append([str(file), about.st_size, about.st_mtime_ns])
    return found


def files_of(paths: Iterable[Path], root: str | Path | None = None) -> Iterator[Path]:
    """The files of paths, those directly in a folder or in folders of its splits, and the recordings of manifests."""
    for path in paths:
        for file in with_splits(path) if path.is_dir() else [path]:
            yield file
            if file == path or file.name.lower().endswith(LISTS):
                yield from recordings_of(file.parent if file.name == KALDI else file, root)


def with_splits(folder: Path) -> Iterator[Path]:
    """Yields the files directly in a folder, and all in the folders of splits in it, or in its folder `data`."""
    for path in sorted(path for path in folder.iterdir() if not is_hidden(path.name)):
        if path.is_file():
            yield path
        elif path.is_dir() and SPLIT.fullmatch(path.name):
            yield from below(path)
        elif path.is_dir() and path.name == "data":
            yield from with_splits(path)


def below(folder: Path) -> Iterator[Path]:
    """Yields the files in a folder and below it. Links to folders are followed, each folder once."""
    visited = set()
    for inner, folders, names in os.walk(folder, followlinks=True):
        place = Path(inner).stat()
        if (place.st_dev, place.st_ino) in visited:
            folders.clear()
            continue
        visited.add((place.st_dev, place.st_ino))
        folders[:] = [name for name in folders if not is_hidden(name)]
        yield from (path for name in names if not is_hidden(name) and (path := Path(inner, name)).is_file())


def recordings_of(manifest: Path, root: str | Path | None = None) -> Iterator[Path]:
    """Yields the files that a manifest names. What is wrong in it is passed over: the verb that reads it names it."""
    try:
        for entry in entries([manifest], root, anywhere=True):
            if entry.span or entry.cell:  # the archive or table that holds the recordings is checked instead
                return
            if entry.reason in ("", "missing"):
                yield Path(entry.path)
    except UserError:
        return


def labels_of(results: Results) -> Iterator[Path]:
    """What `label` wrote, by which the labels are known."""
    if "labels" in results:
        yield Path(results["labels"]) / "meta.json"


def run_files(run: Path, results: Results) -> Iterator[Path]:
    """What `train` wrote: config, metrics and the last checkpoint."""
    yield from (run / "config.json", run / "metrics.jsonl")
    yield from (file for file in (run / "checkpoints" / str(results.get("step"))).rglob("*") if file.is_file())


def probe_files(folder: Path, name: str, results: Results) -> Iterator[Path]:
    """What `probe` wrote of the system of this name, if there is one."""
    if name:
        yield folder / f"{name}.json"


def execute(command: Sequence[str], results: Path, log: Path | None) -> dict[str, Any]:
    """Runs a verb in a process of its own; returns its results and how long it took. log: see `Workflow`."""
    results.parent.mkdir(parents=True, exist_ok=True)
    claim(results, mark("results"))
    began = time.monotonic()
    program = [sys.executable, "-m", "jepa_speech", *command, "--json", str(results)]
    with ExitStack() as stack:
        out = stack.enter_context(log.open("ab")) if log else None
        code = outlast(stack.enter_context(subprocess.Popen(program, stdout=out, stderr=out)))
    if code in (130, -signal.SIGINT):
        raise KeyboardInterrupt
    if code == Interrupted.exit_code:
        raise Interrupted("stopped, and saved: run the same command to resume")
    if code:
        step = f"jepa-speech {command[0]}, the last step in {log}," if log else "the step above"
        raise UserError(f"{step} failed with exit code {code}; run the same command to resume there")
    found = {"seconds": time.monotonic() - began, "results": read_json(results)}
    results.unlink()
    return found


def outlast(verb: subprocess.Popen) -> int:
    """Waits for the verb, however often Ctrl-C is pressed (it gets it too, and may be saving); passes SIGTERM on."""
    before = signal.signal(signal.SIGTERM, lambda *_: verb.terminate())
    try:
        while True:
            try:
                return verb.wait()
            except KeyboardInterrupt:
                continue
    finally:
        signal.signal(signal.SIGTERM, before)
