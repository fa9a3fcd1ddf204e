"""The verb, by the very commands of docs/reading-curves.md, with stand-ins for the checkpoints."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from support import pages
from support.analysed_run import analysed_run, others, png, stand_in

from jepa_speech.analysis import over_steps
from jepa_speech.cli import main
from jepa_speech.nn.encoder import EncoderConfig
from jepa_speech.objectives.wav2vec2 import Wav2Vec2Config
from jepa_speech.settings.run_config import RunConfig


@pytest.fixture
def run(tmp_path, monkeypatch):
    return analysed_run(tmp_path, monkeypatch)


def test_the_commands_of_the_docs(run, capsys):
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


def test_several_side_by_side(run, tmp_path, capsys):
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


def test_wrong_command_lines(run, capsys):
    command = ["analyze", "--checkpoint", "RUN", "--out", "out", "--store"]
    assert main([*command, "NOWHERE"]) == 1
    assert "NOWHERE: not a complete store" in capsys.readouterr().err
    assert main([*command, "STORE", "--utterances", "0"]) == 2
    assert "utterances 0" in capsys.readouterr().err
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
    assert png(over_steps.analysis_figure(curves["steps"], curves["data"])).startswith(b"\x89PNG")
    page = Path("out/report.html").read_text(encoding="utf-8")
    assert "Over the steps" in page and page.count("<h2>Training") == 1
    names = {path.name for path in Path("out").glob("*.png")}
    assert {"store_steps.png", "data_steps.png", "store_RUN-100_usage.png", "store_RUN-300_usage.png"} <= names
