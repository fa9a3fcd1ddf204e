"""Run folders, stores, labels and anchors with a damaged file, opened as a user's commands open them: for chaos.py.

Each trial copies a whole folder, damages one file of the copy and opens it. It ends in one of these ways:

    same        it opened with the values of the whole folder: the damage is in bytes that are not read
    refused     one line that names the folder, and every other file is still as it was
    wrong       it opened with other values
    traceback   an error that is not a UserError, or one of several lines, or one that names nothing
    lost        it was refused, but another file is gone or changed

The last three are failures.
"""

import contextlib
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from damage import damage
from killing import ROOT
from tqdm import tqdm

from jepa_speech import cli
from jepa_speech.anchors.load import load_anchor
from jepa_speech.errors import UserError
from jepa_speech.features import grid
from jepa_speech.store.inspection import verify
from jepa_speech.store.labels import Labels
from jepa_speech.store.store import Store
from jepa_speech.training.checkpoint import read_weights
from jepa_speech.training.run_json import config_of_a_run

FAILURES = ("wrong", "traceback", "lost")
ENDS = ("same", "refused", *FAILURES)
LONGEST = 600  # characters; a longer message is a failure
TOY = ROOT / "tests" / "training" / "toy.py"
STOPPED, STEPS = 7, {"steps": 12, "checkpoint_every": 3}


class Subject(NamedTuple):
    """A kind of folder: which part of it is damaged, and how it is opened, as values that can be compared."""

    damaged: str
    values: Callable[[Path], Mapping[str, Any]]
    grows: bool = False  # opening it appends to its files and makes new ones


def make(work: Path, corpus: Callable[[Path], None]) -> None:
    """work/whole: a store with labels, an anchor, and a run of the toy objective that was stopped on its way."""
    whole = work / "whole"
    corpus(work / "audio")
    store, anchor = whole / "store", whole / "gmm.npz"
    for command in (
        ["prepare", "--input", work / "audio", "--out", store, "--workers", "1"],
        ["fit", "gmm", "--store", store, "--out", anchor, "--components", "8", "--iterations", "4"],
        ["label", "--store", store, "--anchor", anchor, "--top-k", "4"],
    ):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
            if cli.main([str(word) for word in command]):
                raise RuntimeError(f"{command[0]} failed: {said.getvalue()[-1000:]}")
    steps = [f"{name}={value}" for name, value in STEPS.items()]
    stopped = subprocess.run(
        [sys.executable, TOY, whole / "run", str(STOPPED), "SIGTERM", *steps], cwd=ROOT, capture_output=True, text=True
    )
    if stopped.returncode != 75:
        raise RuntimeError(f"the toy run was not stopped but ended with {stopped.returncode}: {stopped.stderr[-1000:]}")


def gone_on(folder: Path) -> dict[str, Any]:
    """The run after it was resumed and finished."""
    sys.path.insert(0, str(TOY.parent))
    from toy import ToyObjective, toy_batches, toy_config, train

    config = toy_config(**STEPS)
    train(config, ToyObjective(), toy_batches(config), folder / "run")
    return weights(folder) | {"metrics.jsonl": (folder / "run" / "metrics.jsonl").read_bytes()}


def loaded(folder: Path) -> dict[str, Any]:
    """Config and weights of the run, as `load_pretrained` reads them."""
    return {"config.json": config_of_a_run(folder / "run" / "config.json")} | weights(folder)


def weights(folder: Path) -> dict[str, Any]:
    step, arrays = read_weights(folder / "run")
    return arrays | {"step": step}


def stored(folder: Path) -> dict[str, Any]:
    """All recordings of the store, after `inspect --verify`."""
    store = Store(folder / "store")
    if found := verify(store, decode=True):
        raise UserError(f"{store.path}: {found[0]['what']}")
    return {str(i): store.read(i) for i in range(len(store))} | {"records": list(store.records())}


def labelled(folder: Path) -> dict[str, Any]:
    """All labels of the store, as training reads them."""
    store, anchor = Store(folder / "store"), load_anchor(folder / "gmm.npz")
    labels = Labels(store, anchor)
    parts = [labels.slice(i, 0, int(grid.frames(n))) for i, n in enumerate(store.samples.tolist())]
    return {f"{what} {i}": array for i, part in enumerate(parts) for what, array in zip("ip", part, strict=True)}


def anchored(folder: Path) -> dict[str, Any]:
    anchor = load_anchor(folder / "gmm.npz")
    return {name: np.asarray(value) for name, value in anchor.arrays().items()} | {"fingerprint": anchor.fingerprint}


SUBJECTS = {
    "run folder, resumed": Subject("run", gone_on, grows=True),
    "run folder, weights read": Subject("run", loaded),
    "store": Subject("store", stored),
    "labels": Subject("store/labels", labelled),
    "anchor": Subject("gmm.npz", anchored),
}


def trials(
    count: int, seed: int, work: Path, corpus: Callable[[Path], None], differences: Callable[..., list[str]]
) -> list[dict[str, Any]]:
    """Runs `count` trials, each subject in turn; returns one row each, with `end` among ENDS."""
    random = np.random.default_rng(seed)
    make(work, corpus)
    expected: dict[str, Mapping[str, Any]] = {}
    rows = []
    for number in tqdm(range(count), "damaged", disable=None):
        name = list(SUBJECTS)[number % len(SUBJECTS)]
        if name not in expected:
            with copied(work) as folder:
                expected[name] = quietly(SUBJECTS[name].values, folder)
        with copied(work) as folder:
            end = tried(SUBJECTS[name], folder, expected[name], random, differences)
        rows.append({"trial": number, "subject": name} | end)
    return rows


def tried(
    subject: Subject,
    folder: Path,
    expected: Mapping[str, Any],
    random: np.random.Generator,
    differences: Callable[..., list[str]],
) -> dict[str, Any]:
    """Damages one file of the copy, opens it, and returns how that ended."""
    target = folder / subject.damaged
    done = damage(target, random)
    row, before = {"damage": str(done)}, contents(folder)
    try:
        found = quietly(subject.values, folder)
    except UserError as error:
        line = str(error)
        row["said"] = line.replace(str(folder), "FOLDER")
        if "\n" in line or len(line) > LONGEST or str(folder) not in line:
            return row | {"end": "traceback"}
        after = contents(folder)
        lost = [name for name, data in before.items() if not kept(data, after.get(name), subject.grows)]
        return row | ({"end": "lost", "lost": lost} if lost else {"end": "refused"})
    except Exception as error:  # any other is a failure of the program, which this counts
        return row | {"end": "traceback", "said": f"{type(error).__name__}: {error}"[:LONGEST]}
    differing = differences(dict(expected), dict(found))
    return row | ({"end": "wrong", "differences": differing[:5]} if differing else {"end": "same"})


def quietly(values: Callable[[Path], Mapping[str, Any]], folder: Path) -> Mapping[str, Any]:
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        return values(folder)


@contextlib.contextmanager
def copied(work: Path) -> Iterator[Path]:
    """A copy of work/whole while the block runs."""
    folder = Path(tempfile.mkdtemp(dir=work))
    shutil.copytree(work / "whole", folder, dirs_exist_ok=True)
    yield folder
    shutil.rmtree(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def kept(before: bytes, after: bytes | None, grows: bool) -> bool:
    return after is not None and (after.startswith(before) if grows else after == before)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: by subject, how its trials ended."""
    lines = [f"| damaged | tries | {' | '.join(ENDS)} |", "|---" * (len(ENDS) + 2) + "|"]
    for name in SUBJECTS:
        ends = [row["end"] for row in rows if row["subject"] == name]
        lines.append(f"| {name} | {len(ends)} | {' | '.join(str(ends.count(end)) for end in ENDS)} |")
    return "\n".join(lines) + "\n"
