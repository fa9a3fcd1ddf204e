"""`jepa-speech compare` at a toy size: what is run for two objectives, the tables, and what is not run again."""

import json
from pathlib import Path

import pytest
from support.labelled_corpus import write_spoken
from support.toys import CONFIGS

from jepa_speech import cli
from jepa_speech.api import workflow
from jepa_speech.api.compare import Comparison, check, checked_tasks
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


def arguments(config: Path, out: Path, objectives: str, data: Path, *more: str, budget: str = "3") -> list[str]:
    named = ["compare", "--config", config, "--objectives", objectives, "--input", data, "--data", data]
    return [*map(str, named), "--root", "/", "--budget", budget, "--out", str(out), *more]


def test_two_objectives_then_the_other_one_first(config, verbs, tmp_path, capsys):
    data, out = write_spoken(tmp_path / "spoken"), tmp_path / "out"
    assert cli.main(arguments(config, out, "gmm_jepa,pure_jepa", data)) == 0
    assert verbs == ["prepare", "fit gmm", "label", "train", "probe", "train", "probe", "probe", "probe", "probe"]
    shown = capsys.readouterr().out
    found = json.loads((out / "compare.json").read_text())
    names = ["gmm_jepa", "pure_jepa", "random init", "logmel", "logmel5"]
    assert [row[0] for row in found["table"]] == ["system", *names] and "gmm_jepa minus" in shown
    assert [row[0] for row in found["differences"]] == ["gmm_jepa minus", *names[1:]]
    assert found["training"]["gmm_jepa"]["TFLOP"] > found["training"]["pure_jepa"]["TFLOP"] > 0, "a head more"
    assert (out / "report.html").read_text().count('src="data:image/png;base64,') == 1
    runs = [json.loads((out / "runs" / f"{name}-0" / "run" / "config.json").read_text()) for name in names[:2]]
    assert runs[0]["encoder"] == runs[1]["encoder"] and runs[0]["inputs"]["store"] == runs[1]["inputs"]["store"]

    verbs.clear()
    assert cli.main(arguments(config, out, "pure_jepa,gmm_jepa", data)) == 0
    assert verbs == ["prepare", "probe"], "the untrained encoder is that of the first objective"
    assert "pure_jepa minus" in capsys.readouterr().out
    assert cli.main(arguments(config, out, "gmm_jepa", data, budget="1FLOP")) == 2
    assert "a step of gmm_jepa takes" in capsys.readouterr().err


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


def test_the_committed_config_compares_objectives_alone():
    """Same encoder, data, optimiser and steps for every objective that it has an anchor for, or none."""
    path = str(CONFIGS / "compare_small.py")
    configs = {name: load_config(f"{path}:{name}") for name in imported(Path(path)).ANCHORS}
    check(Comparison(path, configs, {}, Path(), {}, "800", None, 3, []))
    assert len({repr((config.optim, config.train)) for config in configs.values()}) == 1
    assert configs["gmm_jepa_as_released"].mask.site == "pre_predictor" and configs["wavlm"].mixing.utterance > 0


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
