"""The verb, by the very commands of docs/probing.md, on a tiny corpus with stand-ins for checkpoints."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support import pages
from support.labelled_corpus import knowing, write_spoken
from support.language_models import uniform

from jepa_speech.cli import main
from jepa_speech.cli import probe as verb
from jepa_speech.probe import classification, evaluate, phones, pooled
from jepa_speech.probe.linear import Recipe
from jepa_speech.train.checkpoint_steps import located

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """A labelled corpus called DIR in the current folder; RUN stands for a run that knows the phones."""
    folder = write_spoken(tmp_path / "DIR")
    monkeypatch.chdir(tmp_path)
    short = Recipe(learning_rates=(3e-2,), decays=(0.0,), steps=60, batch=64)
    monkeypatch.setattr(phones, "RECIPE", short)
    monkeypatch.setitem(evaluate.TASKS, "speaker", replace(pooled.SPEAKER, RECIPE=short))

    def model(extract, step=0):
        return SimpleNamespace(
            config={},
            written={},
            params={"w": np.float32(step)},
            aux_state={},
            step=step,
            represent=lambda wave, rate: SimpleNamespace(layers=extract(wave, rate), frame_rate=50.0),
        )

    def load(run):
        """At step 100 RUN knows nothing yet."""
        step = located(run)[1] or 300
        return model(knowing(folder, noise=step == 100), step)

    for step in (100, 200, 300):
        Path("RUN/checkpoints", f"{step}").mkdir(parents=True)
    monkeypatch.setattr(verb, "load_pretrained", load)
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
    assert verb.architecture(f"{CONFIGS / 'smoke.py'}:pure_jepa").encoder.width == 128


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


def test_several_steps_go_on_after_a_kill(corpus, monkeypatch, capsys):
    """Tasks of steps that are done are not done again, and all files are as without the kill."""
    line = [*STEPS, "--step", "100,200"]
    assert main(["whole" if word == "results" else word for word in line]) == 0
    real, probed = classification.evaluate, []

    def evaluated(task, *more):
        if len(probed) == 3:
            raise KeyboardInterrupt
        probed.append(task)
        return real(task, *more)

    with monkeypatch.context() as killed:
        killed.setattr(classification, "evaluate", evaluated)
        assert main(line) == 130
        assert {path.name for path in Path("results").glob("*.partial")} == {
            "RUN-100.probe.partial",
            "RUN-200.probe.partial",
        }
        probed[:] = [None, None]  # one more is allowed
        assert main(line) == 0
    assert len(probed) == 3 and not list(Path("results").glob("*.partial"))
    names = {path.relative_to("whole") for path in Path("whole").rglob("*") if path.is_file()}
    assert names == {path.relative_to("results") for path in Path("results").rglob("*") if path.is_file()}
    for name in names:
        assert Path("whole", name).read_bytes() == Path("results", name).read_bytes(), name


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (
            ["--checkpoint", "RUN", "--step", "150"],
            1,
            "RUN: has no checkpoint of step 150; choose one of 100, 200, 300",
        ),
        (["--checkpoint", "RUN", "--step", "100,"], 2, "'': the number of a step, latest or best"),
        (["--checkpoint", "logmel", "--step", "100"], 2, "--step 100 goes with a run folder, not with"),
        (["--checkpoint", "RUN", "--step", "100,200", "--pool", "ours.json"], 2, "probe one --step with it"),
    ],
)
def test_steps_that_cannot_be_are_refused_before_anything_is_computed(corpus, capsys, options, code, words):
    assert main(["probe", "--data", "DIR", "--out", "results", *options]) == code
    assert words in capsys.readouterr().err and not Path("results").exists()
