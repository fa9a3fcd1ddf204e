"""The verb, by the very commands of docs/probing.md, on a tiny corpus with stand-ins for checkpoints."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pages
import pytest
from arpa import uniform
from spoken import knowing, write_spoken

from jepa_speech.cli import main
from jepa_speech.cli import probe as verb
from jepa_speech.probe import classification, evaluate, phones, pooled
from jepa_speech.probe.linear import Recipe

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """A labelled corpus called DIR in the current folder; RUN stands for a run that knows the phones."""
    folder = write_spoken(tmp_path / "DIR")
    monkeypatch.chdir(tmp_path)
    short = Recipe(learning_rates=(3e-2,), decays=(0.0,), steps=60, batch=64)
    monkeypatch.setattr(phones, "RECIPE", short)
    monkeypatch.setitem(evaluate.TASKS, "speaker", replace(pooled.SPEAKER, RECIPE=short))

    def model(extract):
        return SimpleNamespace(
            config={},
            params={},
            slow={},
            step=0,
            represent=lambda wave, rate: SimpleNamespace(layers=extract(wave, rate), frame_rate=50.0),
        )

    monkeypatch.setattr(verb, "load_pretrained", lambda run: model(knowing(folder)))
    monkeypatch.setattr(verb, "untrained", lambda config, seed: model(knowing(folder, noise=True)))
    return folder


def test_a_language_model_is_for_words(corpus, capsys):
    pytest.importorskip("flashlight.lib.text", reason="flashlight-text, of the extra [lm], is not installed")
    line = ["probe", "--checkpoint", "logmel", "--data", "DIR", "--tasks", "phones", "--out", "results", "--lm"]
    assert main([*line, "gone.arpa"]) == 1  # before anything is computed
    assert "gone.arpa: No such file" in capsys.readouterr().err
    assert main([*line, uniform(corpus / "lm.arpa", ["a"])]) == 2
    assert "--lm is for words: it needs the task asr" in capsys.readouterr().err


def test_the_commands_of_the_docs(corpus, capsys):
    lines = pages.commands("probing.md")
    assert len(lines) == 7
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
        f"{name}.json" for name in ("logmel5", "random", "ours", "RUN", "ours-speaker", "seed1", "seed2")
    }


def test_the_python_of_the_docs(corpus, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", pages.text("probing.md"), re.S)
    exec(compile(code, "probing.md", "exec"), {})
    assert re.fullmatch(r"\d+\.\d \[\d+\.\d, \d+\.\d\]\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--checkpoint", "random"], 2, "--like RUN"),
        (["--checkpoint", "logmel", "--tasks", "phones,singing"], 2, "unknown task singing"),
        (["--checkpoint", "logmel", "--against", "DIR/train.manifest.jsonl"], 1, "train.manifest.jsonl"),
        (["--checkpoint", "logmel", "--data", "NOWHERE"], 1, "NOWHERE/train.manifest.jsonl: no such file"),
    ],
)
def test_wrong_command_lines(corpus, capsys, options, code, words):
    assert main(["probe", "--data", "DIR", "--out", "results", *options]) == code
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not Path("results").exists()


def test_a_random_encoder_may_be_that_of_a_config_file():
    assert verb.architecture(f"{CONFIGS / 'smoke.py'}:pure_jepa")["encoder"]["width"] == 128


def test_baselines_on_real_speech(speech_data):
    """Log-mel with context beats log-mel by an interval that excludes zero; both are far above the majority."""
    logmel, context = (
        evaluate.probe(name, verb.baseline(name), speech_data / "librispeech", ["phones"], progress=False)
        for name in ("logmel", "logmel5")
    )
    assert np.isclose(evaluate.estimate(logmel, "phones").value, 0.32, atol=0.02)
    assert evaluate.compare([context], [logmel], "phones").low > 0.05


def test_tasks_that_are_done_are_kept_after_a_kill(corpus, monkeypatch):
    line = ["probe", "--checkpoint", "logmel", "--data", "DIR", "--tasks", "phones,speaker", "--out"]
    assert main([*line, "whole"]) == 0
    real, probed = classification.evaluate, []

    def evaluate_but(last):
        def evaluated(task, *more):
            if task is last:
                raise KeyboardInterrupt
            probed.append(task)
            return real(task, *more)

        return evaluated

    speaker = evaluate.TASKS["speaker"]
    monkeypatch.setattr(classification, "evaluate", evaluate_but(speaker))
    assert main([*line, "results"]) == 130 and probed == [phones]
    assert [path.name for path in Path("results").iterdir()] == ["logmel.probe.partial"]
    assert main([*line, "results", "--seed", "1"]) == 1  # of another seed: it stays
    monkeypatch.setattr(classification, "evaluate", evaluate_but(None))
    assert main([*line, "results"]) == 0 and probed == [phones, speaker]
    assert Path("results/logmel.json").read_bytes() == Path("whole/logmel.json").read_bytes()
    assert {path.name for path in Path("results").iterdir()} == {"logmel.json", "logmel"}
