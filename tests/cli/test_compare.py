"""`jepa-speech compare` at a toy size: what is run for two objectives, the tables, and what is not run again."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.labelled_corpus import write_spoken
from support.toys import CONFIGS

from jepa_speech import cli
from jepa_speech.api import workflow
from jepa_speech.api.compare import check, checked_tasks
from jepa_speech.api.compared_runs import Comparison
from jepa_speech.api.ladder import ladder_of
from jepa_speech.cli.compare import labelled_of
from jepa_speech.errors import UsageError
from jepa_speech.files import read_json
from jepa_speech.probing import phones
from jepa_speech.probing.linear import Recipe
from jepa_speech.training.configfile import imported, load_config

CONFIG = """
from jepa_speech.training.configfile import config_dict

ANCHORS = {{"gmm_jepa": ("gmm", "--components", "16", "--features", "logmel"), "pure_jepa": (), "wavlm": ()}}

def get_config(variant):
    config = config_dict({tiny!r} + ":" + variant)
    config.train.update(checkpoint_every=3)
    config.data.update(buckets=(1.0,))
    return config
"""


@pytest.fixture
def verbs(monkeypatch):
    """What was run, in this process."""
    ran = []

    def here(command, results, log):
        ran.append(" ".join(command[:2]) if command[0] == "fit" else command[0])
        results.parent.mkdir(parents=True, exist_ok=True)
        assert ("--root" in command) == (command[0] in ("prepare", "probe", "analyze"))
        assert cli.main([*command, "--json", str(results)]) == 0
        return {"seconds": 0.0, "results": read_json(results)}

    monkeypatch.setattr(workflow, "execute", here)
    monkeypatch.setattr(phones, "RECIPE", Recipe(steps=20))
    return ran


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "toy.py"
    path.write_text(CONFIG.format(tiny=str(CONFIGS / "tiny.py")))
    return path


def arguments(config: Path, out: Path, objectives: str, data: Path, budgets: str = "2,3") -> list[str]:
    named = ["compare", "--config", config, "--objectives", objectives, "--input", data, "--data", data]
    return [*map(str, named), "--root", "/", "--budgets", budgets, "--out", str(out)]


def test_two_objectives_at_two_budgets_then_the_other_one_first(config, verbs, tmp_path, capsys):
    data, out = write_spoken(tmp_path / "spoken"), tmp_path / "out"
    assert cli.main(arguments(config, out, "gmm_jepa,pure_jepa", data)) == 0
    assert verbs == ["prepare", "fit gmm", "label", *["train", "probe"], *["probe"] * 3, *["train", "probe"] * 3]
    shown = capsys.readouterr().out
    found = json.loads((out / "compare.json").read_text())
    names, baselines = ["gmm_jepa", "pure_jepa"], ["random init", "logmel", "logmel5"]
    assert [(row[0], row[2]) for row in found["table"][1:5]] == [(name, steps) for steps in "23" for name in names]
    assert [row[0] for row in found["table"][5:]] == baselines
    others = [["gmm_jepa", "pure_jepa"], *([name, one] for name in names for one in baselines)]
    assert [row[:3] for row in found["differences"][1:]] == [[*pair, budget] for budget in "23" for pair in others]
    assert "gmm_jepa  pure_jepa" in shown and "pure_jepa  logmel" not in shown, "the first one's differences alone"
    work = {budget: of_each["gmm_jepa"]["TFLOP"] for budget, of_each in found["training"].items()}
    assert work["3"] > work["2"] > found["training"]["2"]["pure_jepa"]["TFLOP"] > 0, "a head more"
    assert (out / "report.html").read_text().count('src="data:image/png;base64,') == 1
    runs = [json.loads((out / "runs" / "3" / f"{name}-0" / "run" / "config.json").read_text()) for name in names]
    assert runs[0]["encoder"] == runs[1]["encoder"] and runs[0]["inputs"]["store"] == runs[1]["inputs"]["store"]
    assert [run["train"]["steps"] for run in runs] == [3, 3]

    verbs.clear()
    shutil.rmtree(out / "runs" / "2" / "gmm_jepa-0")
    shutil.rmtree(out / "anchors")
    assert cli.main(arguments(config, out, "pure_jepa,gmm_jepa", data)) == 0
    assert verbs == ["prepare", "probe"], "results stand for runs; the untrained encoder is that of the first objective"
    assert "pure_jepa  gmm_jepa" in capsys.readouterr().out
    assert cli.main(arguments(config, out, "gmm_jepa", data, "1FLOP")) == 2
    assert "a step of gmm_jepa takes" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_by_the_system_it_ends_with_the_numbers_of_another_ladder(config, tmp_path):
    """Two ladders of one command, one of them killed with its children when its first results are there."""
    data = write_spoken(tmp_path / "spoken")

    def ladder(out: Path, killed: bool = False) -> dict:
        command = [sys.executable, "-m", "jepa_speech", *arguments(config, out, "pure_jepa", data, "2")]
        with subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True) as process:
            for line in process.stderr:
                if killed and line.startswith("$ jepa-speech probe") and list((out / "results").rglob("*.json")):
                    os.killpg(process.pid, signal.SIGKILL)
                    killed = False
        return {} if process.returncode else read_json(out / "compare.json")

    assert ladder(tmp_path / "killed", killed=True) == {}
    first = min((tmp_path / "killed" / "results").rglob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    before = first.stat().st_mtime_ns
    assert ladder(tmp_path / "killed") == ladder(tmp_path / "whole") != {}
    assert first.stat().st_mtime_ns == before, "finished work is not done again"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objectives": "gmm_jepa,hubert"}, "ANCHORS says nothing of hubert"),
        ({"objectives": "gmm_jepa,wavlm"}, "wavlm has another encoder than gmm_jepa"),
        ({"budget": "much"}, "budget = much"),
        ({"data": ["DATA:phones", "DATA/..:speaker,phones"]}, "the task phones is asked for on two folders"),
        ({"data": ["DATA/nowhere"]}, "is no folder"),
        ({"data": ["DATA:singing"]}, "unknown task singing"),
    ],
)
def test_wrong_input_is_one_line(config, monkeypatch, tmp_path, capsys, change, message):
    monkeypatch.setattr(workflow, "execute", lambda command, *_: pytest.fail(f"{command} was run"))
    data = tmp_path / "spoken"
    data.mkdir()
    options = {"objectives": "gmm_jepa", "budget": "3", "data": ["DATA"]} | change
    line = ["compare", "--config", str(config), "--input", str(data), "--out", str(tmp_path / "out"), "--data"]
    line += [text.replace("DATA", str(data)) for text in options["data"]]
    assert cli.main([*line, "--objectives", options["objectives"], "--budget", options["budget"]]) == 2
    shown = capsys.readouterr().err
    assert message in shown and shown.count("\n") == 1


@pytest.mark.parametrize("name", ["compare_small", "ladder"])
def test_the_committed_configs_compare_objectives_alone(name):
    """Same encoder, data, optimiser and steps for every objective that it has an anchor for, or none."""
    path = str(CONFIGS / f"{name}.py")
    module = imported(Path(path))
    configs = {name: load_config(f"{path}:{name}") for name in module.ANCHORS}
    ladder = ladder_of(getattr(module, "LADDER", None), path, list(configs), 800, 3)
    check(Comparison(path, configs, {}, Path(), {Path(): ["phones"]}, ladder, None, []))
    assert len({repr((config.optim, config.train)) for config in configs.values()}) == 1
    assert configs["gmm_jepa_as_released"].mask.site == "pre_predictor" and configs["wavlm"].mixing.utterance > 0


def test_the_committed_ladder():
    module = imported(CONFIGS / "ladder.py")
    ladder = ladder_of(module.LADDER, "ladder", None, None, None)
    assert set(ladder.objectives) <= module.ANCHORS.keys() and list(ladder.seeds) == ["800", "3200", "12800"]
    assert set(ladder.seeds["800"].values()) == {3} and ladder.seeds["12800"]["wavlm"] == 3
    assert ladder.tasks({0: ["phones", "abx", "pr"], 1: ["emotion"]}, "3200") == ["phones", "abx"]


def test_folders_with_colons_and_their_tasks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("v", "v:2", "v:2/phones:b"):
        Path(name).mkdir()
    assert labelled_of(["v:2"]) == {"v:2": ["phones"]}
    assert labelled_of(["v:2:speaker,asr", "v:2:phones"]) == {"v:2": ["speaker", "asr", "phones"]}
    assert labelled_of(["v:2/phones:b:speaker"]) == {"v:2/phones:b": ["speaker"]}
    Path("v:phones").mkdir()
    with pytest.raises(UsageError, match=r"--data v:phones can be read in two ways"):
        labelled_of(["v:phones"])
    with pytest.raises(UsageError, match="unknown task nothing"):
        checked_tasks(labelled_of(["v:nothing"]))
