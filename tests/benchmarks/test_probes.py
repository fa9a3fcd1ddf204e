"""benchmarks/probes.py: every task has its corpus, what is done is not done again, and figures stand in one table."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from jepa_speech.files import write_json
from jepa_speech.probing import bootstrap, evaluate

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "probes.py"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("probes", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_task_is_probed_once(script, tmp_path, monkeypatch, capsys):
    ran = []

    def run(command, check):
        options = dict(zip(command[4::2], command[5::2], strict=True))
        ran.append((options["--tasks"], options["--name"]))
        figures = {"accuracy": bootstrap.figure(["a", "b"], np.array([[1, 2], [2, 2]]))}
        part = {"figures": {"accuracy": "higher"}, "chosen": "layer 0", "heads": {"layer 0": {"figures": figures}}}
        results = {"name": options["--name"], "tasks": {options["--tasks"]: part | {"chance": 0.5}}}
        write_json(Path(options["--out"]) / f"{options['--name']}.json", results)

    monkeypatch.setattr(script.subprocess, "run", run)
    monkeypatch.setattr("sys.argv", ["probes.py", "--data", "SPEECH", "--work", str(tmp_path), "--out", str(tmp_path)])
    for _ in range(2):
        script.main()
    assert script.TASKS.keys() == evaluate.TASKS.keys()
    assert len(ran) == len(set(ran)) == 3 * len(script.TASKS)
    table = (tmp_path / "probes.md").read_text()
    assert "| phones | librispeech | accuracy (higher is better) | 50.0 | 75.0 [50.0, 100.0] |" in table
    assert "| intent | slu_synthetic (synthetic) |" in table and table in capsys.readouterr().out
    assert json.loads((tmp_path / "probes.json").read_text())["chosen"]["asr"]["random"] == "layer 0"


def test_a_run_has_the_name_of_its_folder_which_none_shares(script, tmp_path, monkeypatch, capsys):
    assert script.name_of(Path("runs/mine")) == "mine"
    assert script.name_of(Path("runs/compare/runs/hubert-0/run")) == "hubert-0"
    command = ["probes.py", "--data", "SPEECH", "--work", str(tmp_path), "--run", "a/same", "b/same"]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit):
        script.main()
    assert "two systems have one name, which is the folder's: same, same" in capsys.readouterr().err
