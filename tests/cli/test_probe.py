"""The verb, by the very commands of docs/probing.md, on a tiny corpus with stand-ins for checkpoints."""

import json
import re
from pathlib import Path

import pytest
from support import pages
from support.language_models import uniform
from support.probed_corpus import probed_corpus

from jepa_speech.cli import main


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    return probed_corpus(tmp_path, monkeypatch)


def test_a_language_model_is_for_words(corpus, capsys):
    pytest.importorskip("flashlight.lib.text", reason="flashlight-text, of the extra [lm], is not installed")
    line = ["probe", "--checkpoint", "logmel", "--data", "DIR", "--tasks", "phones", "--out", "results", "--lm"]
    assert main([*line, "gone.arpa"]) == 1  # before anything is computed
    assert "gone.arpa: No such file" in capsys.readouterr().err
    assert main([*line, uniform(corpus / "lm.arpa", ["a"])]) == 2
    assert "lm is for words: it needs the task asr" in capsys.readouterr().err


def test_the_commands_of_the_docs(corpus, capsys):
    lines = pages.commands("probing.md")
    assert len(lines) == 8
    for step in (1000, 2000, 3000):  # two that the page names, and a later one
        Path("RUN/checkpoints", f"{step}").mkdir()
    for line in lines:
        assert main(line) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert re.search(r"phones: ours - logmel5 = .* points \(paired\)", out)
    assert re.search(r"phones: seed2 - logmel5 = .* points \(paired, 2 runs against 1\)", out)
    assert "* chosen on the validation split" in out
    results = json.loads(Path("results/ours.json").read_text())
    assert results["tasks"]["phones"]["heads"]["layer 1"]["figures"]["accuracy"]["value"] == 1.0
    assert results["against"]["phones"]["system"] == "logmel5"
    assert (
        sum(
            total
            for _, total in results["tasks"]["speaker"]["heads"]["layer 0"]["figures"]["accuracy"]["counts"].values()
        )
        == 6
    )
    pictures = {path.name for path in Path("results/ours").iterdir()}
    assert {"phones_confusion.png", "phones_layers.png", "phones_layer_weights.png"} <= pictures
    assert {path.name for path in Path("results").glob("*.json")} == {
        f"{name}.json"
        for name in (
            "logmel5",
            "random",
            "ours",
            "RUN",
            "ours-speaker",
            "seed1",
            "seed2",
            "RUN-1000",
            "RUN-2000",
            "RUN-3000",
        )
    }


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--checkpoint", "random"], 2, "--like RUN"),
        (["--checkpoint", "logmel", "--data", "NOWHERE"], 1, "NOWHERE/train.manifest.jsonl: no such file"),
    ],
)
def test_wrong_command_lines(corpus, capsys, options, code, words):
    assert main(["probe", "--data", "DIR", "--out", "results", *options]) == code
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not Path("results").exists()


STEPS = ["probe", "--checkpoint", "RUN", "--data", "DIR", "--tasks", "phones,speaker", "--out", "results"]


def test_several_steps_are_probed_each_and_drawn_together(corpus, capsys):
    options = ["--step", "latest,100", "--step", "200", "--cache", "features", "--json", "said.json"]
    assert main([*STEPS, *options]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    by_step = {step: json.loads(Path(f"results/RUN-{step}.json").read_text()) for step in (100, 200, 300)}
    assert {step: (one["name"], one["step"]) for step, one in by_step.items()} == {
        step: (f"RUN-{step}", step) for step in by_step
    }
    curves = json.loads(Path("results/RUN/steps.json").read_text())
    assert curves["steps"] == [100, 200, 300] and curves["checkpoint"] == "RUN"
    phones = curves["tasks"]["phones"]["accuracy"]
    for i, (step, one) in enumerate(by_step.items()):
        part = one["tasks"]["phones"]
        head = part["heads"][part["chosen"]]["figures"]["accuracy"]
        assert (phones["value"][i], phones["low"][i], phones["high"][i]) == (head["value"], head["low"], head["high"])
        assert phones["head"][i] == part["chosen"] and re.search(rf"^{step} .*{100 * head['value']:.1f}", said, re.M)
    assert phones["value"][0] < 0.7 < phones["value"][1] == phones["heads"]["layer 1"][2] == 1.0
    assert phones["better"] == "higher" and phones["chance"] == by_step[100]["tasks"]["phones"]["chance"]
    assert set(curves["tasks"]["speaker"]) == {"accuracy"}
    for task in ("phones", "speaker"):
        assert Path(f"results/RUN/{task}_steps.png").stat().st_size > 5_000
    assert json.loads(Path("said.json").read_text()) == curves | {"about": "written by jepa-speech: results"}
    assert len(list(Path("features").iterdir())) == 3  # no step reads another one's features
    assert not list(Path("results").glob("*.partial"))


def test_a_name_has_the_step_behind_it(corpus, capsys):
    for step in ("100", "200"):
        line = ["probe", "--checkpoint", "RUN", "--data", "DIR", "--out", "results", "--name", "ours", "--step", step]
        assert main(line) == 0, capsys.readouterr().err
    assert {path.name for path in Path("results").glob("*.json")} == {"ours-100.json", "ours-200.json"}
