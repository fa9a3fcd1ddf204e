"""Launch scripts of jobs in parts: their shell is sound, and their commands are ones that this program takes.

Each is run with a `jepa-speech` that only writes down its arguments.
"""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from jepa_speech import cli

LAUNCH = Path(__file__).parents[1] / "launch"
ARRAYS, JOBS = sorted(LAUNCH.glob("*_array.sbatch")), sorted(LAUNCH.glob("*_indexed_job.yaml"))


def test_there_are_scripts():
    assert {path.name for path in ARRAYS} >= {"prepare_array.sbatch", "label_array.sbatch"}
    assert {path.name for path in JOBS} >= {"prepare_indexed_job.yaml", "label_indexed_job.yaml"}


@pytest.fixture
def written(tmp_path, monkeypatch):
    """What `jepa-speech` was called with, as this program parses it."""
    program, said = tmp_path / "bin" / "jepa-speech", tmp_path / "said"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{said}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return lambda: cli.parse(said.read_text().splitlines())


@pytest.mark.parametrize("path", [*ARRAYS, LAUNCH / "local.sh"], ids=lambda path: path.name)
def test_the_shell_is_sound_and_without_arguments_the_usage_is_shown(path):
    shell = path.read_text().partition("\n")[0].removeprefix("#!")
    subprocess.run([shell, "-n", str(path)], check=True)
    run = subprocess.run([shell, str(path)], capture_output=True, text=True, check=False)
    assert run.returncode == 2 and path.name in run.stderr and "#" not in run.stderr


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
def test_an_indexed_job_writes_its_part(path, written, monkeypatch):
    job = yaml.safe_load(path.read_text())
    spec = job["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    (parts,) = [variable["value"] for variable in container["env"] if variable["name"] == "PARTS"]
    assert (job["kind"], spec["completionMode"]) == ("Job", "Indexed")
    assert int(parts) == spec["completions"] == spec["parallelism"]
    monkeypatch.setenv("PARTS", parts)
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "5")
    subprocess.run([*container["command"], *container["args"]], check=True)
    options = written()
    assert options.verb == path.name.partition("_")[0] and options.part == (5, int(parts))
