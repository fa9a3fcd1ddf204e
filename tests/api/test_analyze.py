"""`jepa_speech.analyze`, with stand-ins for the checkpoints."""

import json
import shutil
from pathlib import Path

import pytest
from support.analysed_run import PROBED, analysed_run, others, stand_in
from support.toys import toy_anchor

import jepa_speech
from jepa_speech.api import analyze as module
from jepa_speech.errors import UsageError, UserError


@pytest.fixture
def run(tmp_path, monkeypatch):
    return analysed_run(tmp_path, monkeypatch)


def test_figures_are_returned_and_nothing_is_written_without_out(run, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    returned = jepa_speech.analyze(tmp_path / "RUN", "STORE", data="DIR", utterances=2, seed=1)
    assert sorted(tmp_path.rglob("*")) == before and "report" not in returned
    written = jepa_speech.analyze("RUN", "STORE", data="DIR", utterances=2, seed=1, probe=PROBED, out="out")
    assert written.keys() - returned.keys() == {"report"}
    for key in ("tables", "utterances", "notes"):  # the first layer of the stand-in is noise
        assert written[key] == returned[key]
    about = {"about": "written by jepa-speech: results"}
    assert json.loads(Path("out/analysis.json").read_text()) == json.loads(json.dumps(written)) | about
    assert "Probe" in Path("out/report.html").read_text(encoding="utf-8")
    assert list(written["tables"]) == ["data", "store"]
    header, *rows = written["tables"]["data"]
    assert header == ["", "model", "targets", "random"]
    pnmi = next(row for row in rows if row[0] == "PNMI")
    assert pnmi[1] == pnmi[2] == f"{written['data']['figures']['model']['pnmi']:.3f}"


def test_without_anchor_and_without_head(run):
    Path("GMM.npz").rename("moved.npz")
    found = jepa_speech.analyze("RUN", "STORE", utterances=2)
    assert "GMM.npz does not exist" in found["notes"][0]
    assert set(found["store"]["figures"]) == {"model", "random"}
    run.cluster_head = None
    found = jepa_speech.analyze("RUN", "STORE", utterances=2, anchor="moved.npz")
    assert set(found["store"]["figures"]) == {"targets", "random"} and "RUN: no head over" in found["notes"][0]


def test_one_step_of_several_runs_but_not_several(run):
    shutil.copytree("RUN", "a/RUN")
    with pytest.raises(UsageError, match="several steps are of one run"):
        jepa_speech.analyze(["RUN", "a/RUN"], "STORE", step=[100, 200])
    found = jepa_speech.analyze(["RUN", "a/RUN"], "STORE", step=100, utterances=2)
    assert list(found["checkpoints"]) == [f"{Path.cwd().name}/RUN-100", "a/RUN-100"]


def test_what_cannot_be_leaves_no_file(run, tmp_path):
    toy_anchor(components=5).save("other.npz")
    others["LONG"] = stand_in(tmp_path / "DIR")
    others["LONG"].objective.min_samples = 12_801  # all have 12 800
    for checkpoint, options, error, words in (
        ("RUN", {"data": "NOWHERE"}, UserError, "NOWHERE/valid.manifest.jsonl: no such file"),
        (["RUN", "RUN/../RUN"], {}, UsageError, "checkpoint RUN/../RUN: the same folder twice"),
        ("RUN", {"anchor": "other.npz"}, UsageError, "has 8 clusters, but the anchor has 5"),
        (["RUN", "LONG"], {}, UserError, "no recordings to analyse"),
    ):
        with pytest.raises(error, match=words):
            jepa_speech.analyze(checkpoint, "STORE", **options, out="out")
    assert not Path("out").exists()


def test_names_of_checkpoints_are_told_apart_as_names_of_files(run):
    for name in ("a/RUN 1", "a/RUN-1", "b/RUN"):
        Path(name, "checkpoints", "1").mkdir(parents=True)
    named = module.named(["b/RUN/checkpoints/1", "RUN/checkpoints/100", "RUN"])
    assert list(named) == ["RUN-1", "RUN-100", "RUN"]
    with pytest.raises(UsageError, match="files of the same name"):
        module.named(["a/RUN 1", "a/RUN-1"])
