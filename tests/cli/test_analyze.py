"""The verb, by the very commands of docs/reading-curves.md, with a stand-in for the checkpoint."""

import json
from pathlib import Path
from types import SimpleNamespace

import pages
import pytest
from spoken import knowing, write_spoken
from toys import toy_anchor

from jepa_speech.cli import analyze as verb
from jepa_speech.cli import main
from jepa_speech.data.prepare import prepare
from jepa_speech.files import write_json, write_jsonl
from jepa_speech.probe import analysis

PROBED = {
    "name": "ours",
    "tasks": {
        "phones": {
            "figures": {"accuracy": "higher"},
            "chosen": "layer 0",
            "heads": {"layer 0": {"valid": 0.4, "figures": {"accuracy": {"value": 0.4, "low": 0.3, "high": 0.5}}}},
            "layer_weights": [1.0],
            "chance": 0.1,
            "classes": ["A", "B"],
            "confusion": [[1, 0], [1, 1]],
        }
    },
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """RUN, STORE, DIR, GMM.npz and results/ours.json in the current folder. Returns the stand-in model."""
    monkeypatch.chdir(tmp_path)
    folder = write_spoken(tmp_path / "DIR")
    prepare([str(folder / "audio")], tmp_path / "STORE", workers=1)
    toy_anchor().save("GMM.npz")
    rows = [{"step": i, "loss": 1 / i, "cluster": 2 / i, "lambda": 1.0} for i in range(1, 6)]
    write_jsonl("RUN/metrics.jsonl", rows)
    write_json("results/ours.json", PROBED)
    truth, posteriors = knowing(folder), analysis.anchor_posteriors(toy_anchor())
    model = SimpleNamespace(
        config={"anchor": {"path": "GMM.npz"}},
        has_clusters=True,
        represent=lambda wave, rate: SimpleNamespace(layers=truth(wave, rate)),
        cluster_probs=lambda wave, rate: posteriors(wave),
    )
    monkeypatch.setattr(verb, "load_pretrained", lambda path: model)
    return model


def test_the_commands_of_the_docs(run, capsys):
    for line in pages.commands("reading-curves.md"):
        assert main(line) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert "PNMI" in out and "targets" in out and "report: analysis/report.html" in out
    results = json.loads(Path("analysis/analysis.json").read_text())
    assert results["data"]["figures"]["model"] == results["data"]["figures"]["targets"]
    assert results["store"]["recordings"] == 18 and len(results["store"]["effective_rank"]) == 2
    page = Path("analysis/report.html").read_text(encoding="utf-8")
    assert "Training" in page and "Probe" in page and "docs/reading-curves.md" in page
    names = {path.stem for path in Path("analysis").glob("*.png")}
    assert {"curves", "data_clusters", "store_usage", "phones_confusion"} <= names


def test_without_anchor_and_without_head(run, capsys):
    command = ["analyze", "--checkpoint", "RUN", "--store", "STORE", "--out", "out", "--utterances", "2"]
    Path("GMM.npz").rename("moved.npz")
    assert main(command) == 0
    assert "--anchor GMM.npz brings it back" in capsys.readouterr().out
    assert set(json.loads(Path("out/analysis.json").read_text())["store"]["figures"]) == {"model", "random"}
    run.has_clusters = False
    assert main([*command, "--anchor", "moved.npz"]) == 0
    assert set(json.loads(Path("out/analysis.json").read_text())["store"]["figures"]) == {"targets", "random"}


def test_wrong_command_lines(run, capsys):
    command = ["analyze", "--checkpoint", "RUN", "--out", "out"]
    assert main([*command, "--store", "NOWHERE"]) == 1
    assert "NOWHERE: not a whole store" in capsys.readouterr().err
    assert main([*command, "--store", "STORE", "--data", "NOWHERE"]) == 1
    assert "NOWHERE/valid.manifest.jsonl: no such file" in capsys.readouterr().err
    assert not Path("out").exists()
