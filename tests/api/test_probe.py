"""`jepa_speech.probe`, on a tiny corpus with stand-ins for checkpoints."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from support import pages
from support.probed_corpus import probed_corpus

import jepa_speech
from jepa_speech.api import probed
from jepa_speech.errors import UsageError, UserError
from jepa_speech.probing import baselines, classification, evaluate

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    return probed_corpus(tmp_path, monkeypatch)


def test_results_are_returned_and_nothing_is_written_without_out(corpus, tmp_path):
    before = {path for path in tmp_path.rglob("*")}
    logmel = jepa_speech.probe("logmel", corpus)
    ours = jepa_speech.probe("RUN", corpus, ["phones"], step=300, against=[logmel])
    assert {path for path in tmp_path.rglob("*")} == before
    part = ours["tasks"]["phones"]
    assert (ours["name"], ours["step"], part["chosen"]) == ("RUN-300", 300, "layer 1")
    figure = part["heads"]["layer 1"]["figures"]["accuracy"]
    assert part["test"] == {"accuracy": {key: figure[key] for key in ("value", "low", "high")}}
    assert part["test"]["accuracy"]["value"] == 1.0
    difference = ours["against"]["phones"]
    assert difference["system"] == "logmel"
    assert np.isclose(difference["value"], 1 - logmel["tasks"]["phones"]["test"]["accuracy"]["value"])
    each = []
    results = jepa_speech.probe("logmel", corpus, out="results", each=each.append)
    assert each == [results] == [logmel]
    written = json.loads(Path("results/logmel.json").read_text())
    assert written == json.loads(json.dumps(results)) | {"about": "written by jepa-speech: results"}


def test_the_python_of_the_docs(corpus, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", pages.text("probing.md"), re.S)
    exec(compile(code, "probing.md", "exec"), {})
    assert re.fullmatch(r"\{'value': 0\.\d+, .*\}\n\d+\.\d \[\d+\.\d, \d+\.\d\]\n", capsys.readouterr().out)


def test_a_random_encoder_may_be_that_of_a_config_file():
    assert probed.architecture(f"{CONFIGS / 'smoke.py'}:pure_jepa").encoder.width == 128


def test_baselines_on_real_speech(speech_data):
    """Log-mel with context beats log-mel by an interval that excludes zero; both are far above the majority."""
    logmel, context = (
        evaluate.probe_features(name, baselines.baseline(name), speech_data / "librispeech", ["phones"], progress=False)
        for name in ("logmel", "logmel5")
    )
    assert np.isclose(evaluate.estimate(logmel, "phones").value, 0.32, atol=0.02)
    assert evaluate.compare([context], [logmel], "phones").low > 0.05


def test_it_goes_on_after_a_kill(corpus, monkeypatch):
    """Tasks of steps that are done are not done again, and all files are as without the kill."""

    def probe(out, **changes):
        return jepa_speech.probe("RUN", corpus, "phones,speaker", out=out, step=[100, 200], **changes)

    whole = probe("whole")
    real, done = classification.evaluate, []

    def evaluated(task, *more):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(task)
        return real(task, *more)

    with monkeypatch.context() as killed:
        killed.setattr(classification, "evaluate", evaluated)
        with pytest.raises(KeyboardInterrupt):
            probe("results")
        assert {path.name for path in Path("results").glob("*.partial")} == {
            "RUN-100.probe.partial",
            "RUN-200.probe.partial",
        }
        with pytest.raises(UserError, match="other options"):
            probe("results", seed=1)
        done[:] = [None, None]  # one more is allowed
        assert probe("results") == whole
    assert len(done) == 3 and not list(Path("results").glob("*.partial"))
    names = {path.relative_to("whole") for path in Path("whole").rglob("*") if path.is_file()}
    assert names == {path.relative_to("results") for path in Path("results").rglob("*") if path.is_file()}
    for name in names:
        assert Path("whole", name).read_bytes() == Path("results", name).read_bytes(), name


@pytest.mark.parametrize(
    ("checkpoint", "options", "error", "words"),
    [
        ("random", {}, UsageError, "--like RUN"),
        ("logmel", {"tasks": "phones,singing"}, UsageError, "unknown task singing"),
        ("logmel", {"against": ["DIR/train.manifest.jsonl"]}, UserError, "train.manifest.jsonl"),
        ("logmel", {"step": 100}, UsageError, "step 100 goes with a run folder, not with checkpoint logmel"),
        ("RUN", {"step": 150}, UserError, "RUN: has no checkpoint of step 150; choose one of 100, 200, 300"),
        ("RUN", {"step": [100, 200], "pool": ["ours.json"]}, UsageError, "probe one step with it"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_computed(corpus, checkpoint, options, error, words):
    with pytest.raises(error, match=words):
        jepa_speech.probe(checkpoint, corpus, **options, out="results")
    assert not Path("results").exists()
