"""The real thing, from the command line: a run killed twice ends bit-identical to one that was not."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from support.clustered_audio import babble_store
from support.toys import CONFIGS, toy_anchor

from jepa_speech.cli import main
from jepa_speech.objectives import build, parsed
from jepa_speech.training.checkpoint import Checkpoints, by_path
from jepa_speech.training.optim import make_optimizer
from jepa_speech.training.run_json import config_of_a_run
from jepa_speech.training.sharding import MeshConfig, make_mesh
from jepa_speech.training.state import abstract_state

STEPS = 60
CONFIG = {"train.steps": str(STEPS), "train.checkpoint_every": "10", "data.buckets": "1.0"}  # one program to compile


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """The command line without its --workdir, for a store of eleven recordings with labels."""
    folder = tmp_path_factory.mktemp("resume")
    store = babble_store(folder, np.linspace(0.3, 1.4, 11))
    toy_anchor().save(folder / "gmm.npz")
    assert main(["label", "--store", str(store.path), "--anchor", str(folder / "gmm.npz"), "--top-k", "4"]) == 0
    keys = CONFIG | {"data.store": str(store.path), "anchor.path": str(folder / "gmm.npz")}
    overrides = [f"--config.{key}={value}" for key, value in keys.items()]
    return [sys.executable, "-m", "jepa_speech", "train", "--config", str(CONFIGS / "tiny.py"), *overrides]


def rows(run: Path) -> int:
    path = run / "metrics.jsonl"
    return len(path.read_bytes().splitlines()) if path.is_file() else 0


def events(run: Path) -> list[str]:
    """The names of the events so far; a line that is being written has none yet."""
    path = run / "events.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
    return [json.loads(line)["event"] for line in lines]


def saved(run: Path) -> bool:
    """Whether a checkpoint is complete, so that there is something to resume; its event comes when it begins."""
    return any(path.name.isdigit() for path in (run / "checkpoints").glob("*"))


def final_state(run: Path) -> dict[str, np.ndarray]:
    config = parsed(config_of_a_run(run / "config.json"))
    optimizer = make_optimizer(config.optim)
    abstract = abstract_state(build(config), optimizer, config.seed, make_mesh(MeshConfig()))
    with Checkpoints(run, keep=2) as checkpoints:
        assert checkpoints.latest == STEPS
        return {path: np.asarray(leaf) for path, leaf in by_path(checkpoints.restore(abstract)).items()}


def test_killed_twice_at_random_steps(command, tmp_path):
    subprocess.run([*command, "--workdir", str(tmp_path / "whole")], check=True)
    random = np.random.default_rng()
    for _ in range(2):
        process = subprocess.Popen([*command, "--workdir", str(tmp_path / "cut")])
        goal = rows(tmp_path / "cut") + int(random.integers(1, 20))
        print("to be killed at row", goal)  # pytest shows it where this fails
        while process.poll() is None and (rows(tmp_path / "cut") < goal or not saved(tmp_path / "cut")):
            time.sleep(0.002)
        process.kill()
        process.wait()
    subprocess.run([*command, "--workdir", str(tmp_path / "cut")], check=True)

    whole, cut = final_state(tmp_path / "whole"), final_state(tmp_path / "cut")
    assert any("teacher" in path for path in whole) and any("opt_state" in path for path in whole)
    for path in whole:
        np.testing.assert_array_equal(whole[path], cut[path], err_msg=path)
    metrics = [(tmp_path / run / "metrics.jsonl").read_bytes() for run in ("whole", "cut")]
    assert metrics[0] == metrics[1]
    assert len(metrics[0].splitlines()) == STEPS
    assert "resume" in events(tmp_path / "cut") and jax.device_count() == 4


@pytest.mark.parametrize(
    ("when", "number"),
    [("importing", signal.SIGTERM), ("importing", signal.SIGINT), ("compiling", signal.SIGUSR1)],
)
def test_a_signal_before_the_first_step_ends_with_75(command, tmp_path, when, number):
    """As soon as the process can notice it; and once events.jsonl has the start, after which the step is compiled."""
    whole = [*command, "--workdir", str(tmp_path / "run")]
    with subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        if when == "importing":
            status = Path(f"/proc/{process.pid}/status")
            while not int(status.read_text().partition("SigCgt:")[2].split()[0], 16) >> signal.SIGTERM - 1 & 1:
                time.sleep(0.001)
        else:
            events = tmp_path / "run" / "events.jsonl"
            while not (events.exists() and '"start"' in events.read_text()) and process.poll() is None:
                time.sleep(0.001)
        process.send_signal(number)
        shown = process.communicate()[1].splitlines()
    assert process.returncode == 75
    assert shown[-1] == f"jepa-speech: {number.name}: nothing to save; run the same command to resume", shown
    assert not (tmp_path / "run" / "metrics.jsonl").exists() or not rows(tmp_path / "run")
