"""The command line on 8 devices, gone on with on 4 and on 1, in one process and in two: what one would have done.

A run that stopped at a checkpoint is made of a whole one, by taking its later checkpoints away: so it is what a kill
just after the save leaves, and the whole one is the reference.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from support.clustered_audio import babble_store
from support.toys import CONFIGS, toy_anchor
from training.several import run

from jepa_speech.batches.batch_plan import Plan
from jepa_speech.cli import main
from jepa_speech.store.store import Store

STEPS, EVERY = 12, 3
SECONDS = np.linspace(0.3, 1.4, 11)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """Eleven recordings with labels of an anchor, which lies beside the store."""
    folder = tmp_path_factory.mktemp("elsewhere")
    store = babble_store(folder, SECONDS)
    toy_anchor().save(folder / "gmm.npz")
    assert main(["label", "--store", str(store.path), "--anchor", str(folder / "gmm.npz"), "--top-k", "4"]) == 0
    return store


def train(
    store: Store, workdir: Path, devices: int, processes: int = 1, after: int = 0, **changes: object
) -> list[dict]:
    """Trains to the end, going on after that step; the rows of metrics.jsonl."""
    keys = {"data.store": store.path, "anchor.path": store.path.parent / "gmm.npz"}
    keys |= {"data.batch_seconds": 8, "train.steps": STEPS, "train.checkpoint_every": EVERY, "train.keep": STEPS}
    keys |= {key.replace("__", "."): value for key, value in changes.items()}
    command = [sys.executable, "-m", "jepa_speech", "train", "--config", CONFIGS / "tiny.py", "--workdir", workdir]
    ended = run(
        [*command, *(f"--config.{key}={value}" for key, value in keys.items())], processes, devices, timeout=900
    )
    assert [code for code, _ in ended] == [0] * processes, ended
    events = [json.loads(line) for line in (workdir / "events.jsonl").read_text().splitlines()]
    began = [event for event in events if event["event"] in ("start", "resume")][-1]
    assert (began["devices"], began["step"]) == (devices, after)
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def go_on(store: Store, whole: Path, workdir: Path, after: int, *place: int, **changes: object) -> list[dict]:
    """Trains a copy of a whole run as it was when it had just saved that step, (devices, processes) elsewhere."""
    shutil.copytree(whole, workdir)
    for saved in (workdir / "checkpoints").iterdir():
        if int(saved.name) > after:
            shutil.rmtree(saved)
    return train(store, workdir, *place, after=after, **changes)


def same_course(rows: Sequence[dict], reference: Sequence[dict]) -> None:
    """All figures of every step to 1e-5, and the epoch: so the records are the same, too."""
    assert [row["step"] for row in rows] == [row["step"] for row in reference] == list(range(1, STEPS + 1))
    for row, expected in zip(rows, reference, strict=True):
        assert row.keys() == expected.keys()
        for name in row:
            # An effective rank is made of square roots of eigenvalues, some of which are rounding alone.
            rtol = 5e-3 if name == "effective_rank" else 1e-5
            np.testing.assert_allclose(row[name], expected[name], rtol, err_msg=f"{name}, step {row['step']}")


def test_eight_one(store, tmp_path):
    """One bucket, so that each process compiles one step. Fewer devices may need more micro-batches."""
    whole = train(store, tmp_path / "8", 8, data__buckets=1.0)
    one = go_on(store, tmp_path / "8", tmp_path / "1", 3, 1, data__buckets=1.0, train__accumulate=2)
    same_course(one, whole)


def test_all_of_them_read_the_same_records_in_the_same_order(store):
    plans = [Plan(store.samples, (0.5, 1.0), 8.0, seed=0, rows_multiple=devices) for devices in (1, 4, 8)]
    for i in range(STEPS):
        rows = [plan[i] for plan in plans]
        real = [[(item.records[k], item.starts[k]) for k in np.flatnonzero(item.weight)] for item in rows]
        assert real[0] == real[1] == real[2] and len(rows[2].records) % 8 == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("buckets", "places"),
    [("0.5,1.0", ((8, 1), (4, 1), (1, 1), (8, 1))), ("1.0", ((4, 2), (1, 1), (8, 2)))],
    ids=["8-4-1-8", "two, alone, two"],
)
def test_from_place_to_place(store, tmp_path, buckets, places):
    """(devices, processes) one after the other, from save to save."""
    whole = rows = train(store, tmp_path / "0", *places[0], data__buckets=buckets)
    for i, place in enumerate(places[1:], 1):
        rows = go_on(store, tmp_path / f"{i - 1}", tmp_path / f"{i}", i * EVERY, *place, data__buckets=buckets)
    same_course(rows, whole)


@pytest.mark.slow
def test_parameters_that_were_split_four_ways(store, tmp_path):
    """The mesh of a run may change with its devices and processes: one, two, one."""
    one = {"data__buckets": 1.0}
    whole = train(store, tmp_path / "8", 8, mesh__fsdp=4, **one)
    go_on(store, tmp_path / "8", tmp_path / "4", 3, 4, 2, mesh__fsdp=4, **one)
    for saved in (tmp_path / "4" / "checkpoints").iterdir():  # checksums are of what either process wrote
        summed = json.loads((saved / "checksums.json").read_text())["files"]
        written = {path.relative_to(saved).as_posix() for path in saved.rglob("*") if path.is_file()}
        assert summed.keys() == written - {"checksums.json"}
        assert int(saved.name) == 3 or any(name.startswith("weights/ocdbt.process_1/d/") for name in written)
    same_course(go_on(store, tmp_path / "4", tmp_path / "1", 6, 1, 1, mesh__fsdp=1, **one), whole)
