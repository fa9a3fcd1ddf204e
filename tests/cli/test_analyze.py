"""The verb, by the very commands of docs/reading-curves.md, with stand-ins for the checkpoints."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support import pages
from support.labelled_corpus import knowing, write_spoken
from support.toys import toy_anchor

from jepa_speech.analysis import collect as analysis
from jepa_speech.analysis import report
from jepa_speech.cli import analyze as verb
from jepa_speech.cli import main
from jepa_speech.errors import UsageError
from jepa_speech.files import write_json, write_jsonl
from jepa_speech.nn.encoder import EncoderConfig
from jepa_speech.objectives.gmm_jepa import GmmJepaConfig
from jepa_speech.objectives.wav2vec2 import Wav2Vec2Config
from jepa_speech.ownership import mark
from jepa_speech.settings.run_config import AnchorConfig, RunConfig
from jepa_speech.store.prepare import prepare
from jepa_speech.train.checkpoint_steps import located

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
    model = stand_in(folder)
    for step in (100, 200, 300):
        Path("RUN/checkpoints", f"{step}").mkdir(parents=True)

    def load(path):
        return others.get(str(path), SimpleNamespace(**vars(model) | {"step": located(path)[1] or 300}))

    monkeypatch.setattr(verb, "load_pretrained", load)
    others.clear()
    return model


others = {}  # stand-ins of other checkpoints than RUN, by folder


def stand_in(folder, frame_rate=50.0, **changes):
    """A model whose head answers as its targets do, and at hidden frames with an even guess."""
    truth, posteriors = knowing(folder), analysis.anchor_posteriors(toy_anchor())

    def masked(wave, rate, seed):
        p = posteriors(wave)
        hidden = np.random.default_rng(seed).random(len(p)) < 0.5
        return np.where(hidden[:, None], 1 / p.shape[1], p), hidden

    every = round(50 / frame_rate)
    parts = {
        "config": RunConfig(anchor=AnchorConfig("GMM.npz"), encoder=EncoderConfig(), objective=GmmJepaConfig()),
        "cluster_head": SimpleNamespace(mask=SimpleNamespace(fill="learned", site="pre_context")),
        "represent": lambda wave, rate: SimpleNamespace(layers=[x[::every] for x in truth(wave, rate)]),
        "cluster_probs": lambda wave, rate: posteriors(wave),
        "masked_cluster_probs": masked,
        "objective": SimpleNamespace(frame_rate=frame_rate, min_samples=400),
    }
    return SimpleNamespace(**parts | changes)


@pytest.fixture
def undrawn(monkeypatch):
    """Pictures are made, but not drawn, which takes most of the time."""
    monkeypatch.setattr(report, "png", lambda figure: mark("picture").encode())


def test_the_commands_of_the_docs(run, undrawn, capsys):
    for line in pages.commands("reading-curves.md"):
        assert main(line) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert "PNMI" in out and "targets" in out and "report: analysis/report.html" in out
    results = json.loads(Path("analysis/analysis.json").read_text())
    ours, theirs = (results["data"]["figures"][name] for name in ("model", "targets"))
    assert {key for key in ours if ours[key] != theirs[key]} == {"entropy_hidden", "kl_hidden", "effective_rank"}
    assert results["store"]["recordings"] == 18 and len(results["store"]["effective_rank"]) == 2
    page = Path("analysis/report.html").read_text(encoding="utf-8")
    assert "Training" in page and "Probe" in page and "docs/reading-curves.md" in page
    names = {path.stem for path in Path("analysis").glob("*.png")}
    assert {"curves", "data_clusters", "store_usage", "store_hesitation", "cka", "phones_confusion"} <= names
    assert results["checkpoints"]["RUN"]["data"] == results["data"] and len(results["utterances"]["data"]) == 4


def test_several_side_by_side(run, undrawn, tmp_path, capsys):
    """Two of one rate, one of another, one without a head or targets: all that can be had, and why the rest is not."""
    plain = RunConfig(encoder=EncoderConfig(), objective=Wav2Vec2Config())
    others["a/OTHER"] = stand_in(tmp_path / "DIR")
    others["b/OTHER"] = stand_in(tmp_path / "DIR", config=plain, cluster_head=None)
    others["SLOW"] = stand_in(tmp_path / "DIR", 25.0, config=plain, cluster_head=None)
    command = ["analyze", "--checkpoint", "RUN", "a/OTHER", "b/OTHER", "SLOW", "--store", "STORE", "--data", "DIR"]
    assert main([*command, "--out", "out", "--utterances", "3", "--seed", "1"]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    headings = next(line.split() for line in said.splitlines() if "a/OTHER" in line and "targets" in line)
    assert headings == [f"{tmp_path.name}/RUN", "a/OTHER", "b/OTHER", f"{tmp_path.name}/SLOW", "targets", "random"]
    row = next(line.split() for line in said.splitlines() if line.startswith("PNMI"))
    assert row[3:5] == ["–", "–"] and row[1] == row[2] == row[5] and "–" not in (row[1], row[6])
    results = json.loads(Path("out/analysis.json").read_text())
    names = [f"{tmp_path.name}/RUN", "a/OTHER", "b/OTHER", f"{tmp_path.name}/SLOW"]
    assert list(results["checkpoints"]) == names and len(results["utterances"]["store"]) == 3
    pairs = {(pair["of"], pair["with"]): pair["cka"] for pair in results["cka"]["pairs"]}
    assert len(pairs) == 3 + 3 + 1  # of the three of one rate, each with itself; the slow one with itself
    assert pairs[names[0], "a/OTHER"][1][1] == pytest.approx(1) and pairs[names[0], names[0]][0][1] < 0.5
    assert set(results["cka"]["labels"]) == {names[0], "a/OTHER"}
    page = Path("out/report.html").read_text(encoding="utf-8")
    for words in ("wav2vec2, which has none", "the config names no anchor", f"{names[3]} (25 frames per second)"):
        assert words in said and words in page and words in "\n".join(results["notes"]), words
    assert "store" not in results and not re.search(r'(src|href)="(?!data:|#)', page)
    assert Path("out/store_a-OTHER_usage.png").is_file() and Path("out/data_figures.png").is_file()


def test_too_short_for_one_is_left_out_for_all(run, tmp_path, capsys):
    others["LONG"] = stand_in(tmp_path / "DIR")
    others["LONG"].objective.min_samples = 12_801  # all have 12 800
    command = ["analyze", "--checkpoint", "RUN", "LONG", "--store", "STORE", "--out", "out"]
    assert main(command) == 1 and "no recordings to analyse" in capsys.readouterr().err


def test_without_anchor_and_without_head(run, undrawn, capsys):
    command = ["analyze", "--checkpoint", "RUN", "--store", "STORE", "--out", "out", "--utterances", "2"]
    Path("GMM.npz").rename("moved.npz")
    assert main(command) == 0
    assert "--anchor GMM.npz brings them back" in capsys.readouterr().out
    assert set(json.loads(Path("out/analysis.json").read_text())["store"]["figures"]) == {"model", "random"}
    run.cluster_head = None
    assert main([*command, "--anchor", "moved.npz"]) == 0
    assert set(json.loads(Path("out/analysis.json").read_text())["store"]["figures"]) == {"targets", "random"}
    assert "RUN: no head over" in capsys.readouterr().out


def test_wrong_command_lines(run, capsys):
    command = ["analyze", "--checkpoint", "RUN", "--out", "out"]
    assert main([*command, "--store", "NOWHERE"]) == 1
    assert "NOWHERE: not a complete store" in capsys.readouterr().err
    assert main([*command, "--store", "STORE", "--data", "NOWHERE"]) == 1
    assert "NOWHERE/valid.manifest.jsonl: no such file" in capsys.readouterr().err
    assert main([*command, "--store", "STORE", "--utterances", "0"]) == 2
    assert "--utterances 0" in capsys.readouterr().err
    Path("DIR/phones.jsonl").unlink()
    assert main([*command, "--store", "STORE", "--data", "DIR"]) == 1
    assert "phones.jsonl: no such file" in capsys.readouterr().err
    twice = ["analyze", "--checkpoint", "RUN", "RUN/../RUN", "--out", "out", "--store", "STORE"]
    assert main(twice) == 2 and "RUN/../RUN: the same folder twice" in capsys.readouterr().err
    toy_anchor(components=5).save("other.npz")
    assert main([*command, "--store", "STORE", "--anchor", "other.npz"]) == 2
    assert "has 8 clusters, but the anchor has 5" in capsys.readouterr().err
    assert not Path("out").exists()


def test_several_steps_of_a_run_are_drawn_against_the_step(run, tmp_path, capsys):
    others["RUN/checkpoints/100"] = stand_in(tmp_path / "DIR", step=100)
    uniform = np.full((39, 8), 1 / 8)
    others["RUN/checkpoints/100"].cluster_probs = lambda wave, rate: uniform  # an untrained head
    command = ["analyze", "--checkpoint", "RUN", "--step", "300,100", "--store", "STORE", "--data", "DIR"]
    assert main([*command, "--out", "out", "--utterances", "3", "--step", "200"]) == 0, capsys.readouterr().err
    results = json.loads(Path("out/analysis.json").read_text())
    assert list(results["checkpoints"]) == ["RUN-100", "RUN-200", "RUN-300"]
    curves = results["over_steps"]
    assert curves["steps"] == [100, 200, 300] and set(curves) == {"steps", "store", "data"}
    for key in ("store", "data"):
        for figure, kinds in curves[key].items():
            for kind, values in kinds.items():
                of_each = [results["checkpoints"][f"RUN-{step}"][key]["figures"] for step in curves["steps"]]
                assert values == [one.get(kind, {}).get(figure) for one in of_each], (key, figure, kind)
    model = curves["data"]["used_clusters"]["model"]
    assert model[0] == 1 < model[1] == model[2] == curves["data"]["used_clusters"]["targets"][0]
    page = Path("out/report.html").read_text(encoding="utf-8")
    assert "Over the steps" in page and page.count("<h2>Training") == 1
    names = {path.name for path in Path("out").glob("*.png")}
    assert {"store_steps.png", "data_steps.png", "store_RUN-100_usage.png", "store_RUN-300_usage.png"} <= names


def test_one_step_of_several_runs_but_not_several(run, undrawn, capsys):
    shutil.copytree("RUN", "a/RUN")
    command = ["analyze", "--checkpoint", "RUN", "a/RUN", "--store", "STORE", "--out", "out", "--utterances", "2"]
    assert main([*command, "--step", "100,200"]) == 2
    assert "several steps are of one run" in capsys.readouterr().err and not Path("out").exists()
    assert main([*command, "--step", "100"]) == 0
    names = list(json.loads(Path("out/analysis.json").read_text())["checkpoints"])
    assert names == [f"{Path.cwd().name}/RUN-100", "a/RUN-100"]


def test_names_of_checkpoints_are_told_apart_as_names_of_files(run):
    for name in ("a/RUN 1", "a/RUN-1", "b/RUN"):
        Path(name, "checkpoints", "1").mkdir(parents=True)
    named = verb.named(["b/RUN/checkpoints/1", "RUN/checkpoints/100", "RUN"])
    assert list(named) == ["RUN-1", "RUN-100", "RUN"]
    with pytest.raises(UsageError, match="files of the same name"):
        verb.named(["a/RUN 1", "a/RUN-1"])
