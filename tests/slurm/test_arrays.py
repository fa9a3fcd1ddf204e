"""The array scripts of launch/ on a real SLURM, and what the stand-in for sbatch imitates."""

import subprocess
import sys
from pathlib import Path

import pytest
from slurm.cluster import wait_for
from slurm.job import PATIENCE
from support.clustered_audio import babble_store
from support.toys import toy_anchor

from jepa_speech.store.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.slurm]
LAUNCH = Path(__file__).parents[2] / "launch"


@pytest.fixture
def ended(cluster, tmp_path, monkeypatch):
    """ended(ARGUMENT...) of sbatch: the states and exit codes of the jobs, once they have ended."""
    monkeypatch.chdir(tmp_path)

    def states(*arguments):
        number = cluster.run("sbatch", "--parsable", *arguments).strip()
        wait_for(lambda: not cluster.run("squeue", "--noheader", f"--jobs={number}"), PATIENCE)
        shown = cluster.run("scontrol", "show", "job", number).split()
        return [word.partition("=")[2] for word in shown if word.startswith(("JobState=", "ExitCode="))]

    return states


def test_prepare_and_label_in_parts(ended, tmp_path):
    whole = babble_store(tmp_path, [0.5] * 7)
    store = tmp_path / "parts"
    merge = [sys.executable, "-m", "jepa_speech", "inspect", store, "--merge"]
    script = [LAUNCH / "prepare_array.sbatch", tmp_path / "audio", store]
    assert ended("--array=0-2", "--cpus-per-task=1", *script) == ["COMPLETED", "0:0"] * 3
    subprocess.run(merge, check=True)
    assert Store(store).fingerprint == whole.fingerprint

    toy_anchor().save(tmp_path / "gmm.npz")
    script = [LAUNCH / "label_array.sbatch", store, tmp_path / "gmm.npz", "--top-k", 4]
    assert ended("--array=0-1", "--cpus-per-task=1", *script) == ["COMPLETED", "0:0"] * 2
    joined = subprocess.run(merge, check=True, capture_output=True, text=True).stdout
    assert "labels of anchor " in joined
    assert len(list(tmp_path.glob("*.out"))) == 5


@pytest.mark.parametrize("verb", ["prepare", "label"])
def test_a_script_without_array_says_so(verb, ended, tmp_path):
    assert ended(LAUNCH / f"{verb}_array.sbatch", "a", "b")[0] == "FAILED"
    (log,) = tmp_path.glob("*.out")
    assert "--array=0-N" in log.read_text()


def test_what_sbatch_refuses_and_what_it_does_not(cluster, ended):
    with pytest.raises(AssertionError, match="--gpus-per-task used without"):
        cluster.run("sbatch", "--gpus-per-task=1", "--wrap=true")
    assert ended("--output=missing/x", "--wrap=true") == ["FAILED", "0:53"]
