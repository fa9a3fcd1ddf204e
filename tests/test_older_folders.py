"""A store, its labels, an anchor and a run folder as commit eeecdae wrote them still open, resume and export.

Made there from six synthetic recordings, with `--components 4 --features mfcc --normalize mean --top-k 4` and
configs/tiny.py for 4 steps, a checkpoint every 2.
"""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

import jepa_speech
from jepa_speech.cli import main

FOLDERS = Path(__file__).parent / "golden" / "folders_of_eeecdae.tar.xz"


@pytest.fixture
def older(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with tarfile.open(FOLDERS) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def test_store_labels_and_anchor_are_whole_and_of_each_other(older, capsys):
    assert main(["inspect", "store", "--verify"]) == 0
    assert main(["label", "--store", "store", "--anchor", "gmm.npz", "--top-k", "4"]) == 0
    assert "has been labelled by this anchor" in capsys.readouterr().out


def test_a_run_resumes_from_an_earlier_checkpoint_and_trains_as_it_did(older):
    rows = Path("run/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    keys = [
        "train.steps=4",
        "train.checkpoint_every=2",
        "train.report_every=2",
        "data.store=store",
        "anchor.path=gmm.npz",
    ]
    command = ["train", "--config", "tiny", "--workdir", "run", "--from-step", "2"]
    assert main([*command, *(f"--config.{key}" for key in keys)]) == 0
    again = Path("run/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(again) == len(rows) == 4
    for before, after in zip(map(json.loads, rows), map(json.loads, again), strict=True):
        assert before.keys() <= after.keys()
        np.testing.assert_allclose([after[key] for key in before], list(before.values()), rtol=1e-3, atol=1e-4)


def test_a_run_opens_and_exports(older):
    wave = np.sin(np.arange(8000) / 10).astype(np.float32)
    layers = jepa_speech.load_pretrained("run").represent(wave, 16_000).layers
    assert main(["export", "hf", "run", "--out", "hf"]) == 0
    np.testing.assert_allclose(
        jepa_speech.load_pretrained("hf").represent(wave, 16_000).layers[-1], layers[-1], atol=1e-5
    )
