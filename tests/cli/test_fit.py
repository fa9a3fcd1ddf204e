import json

import numpy as np
import pytest
from babble import babble_store

from jepa_speech.anchors.load import load_anchor
from jepa_speech.cli import main
from jepa_speech.data.feature_means import load_means


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return babble_store(tmp_path_factory.mktemp("fit"), [0.8, 1.5, 0.6, 1.9])


def fit(store, out, *options):
    return main(["fit", "gmm", "--store", str(store.path), "--out", str(out), "--components", "8", *options])


def test_fit_writes_an_anchor_and_says_what_it_is(store, tmp_path, capsys):
    out, report = tmp_path / "deep" / "gmm.npz", tmp_path / "report.json"
    options = ["--features", "mfcc", "--normalize", "mean", "--perplexity", "3", "--iterations", "4"]
    assert fit(store, out, *options, "--json", str(report)) == 0
    anchor, results = load_anchor(out), json.loads(report.read_text())
    assert (anchor.components, anchor.dim, anchor.features, anchor.normalize) == (8, 39, "mfcc", "mean")
    assert results["fingerprint"] == anchor.fingerprint
    assert results["temperature"] == anchor.temperature
    assert results["posterior_perplexity"] == pytest.approx(3, rel=1e-2)
    assert len(results["heldout_log_likelihood"]) <= 4
    assert 0 < results["weight_entropy"] <= 1
    assert load_means(store, "mfcc").shape == (len(store), 39)
    assert "8 alive of 8" in capsys.readouterr().out

    assert fit(store, tmp_path / "again.npz", *options) == 0
    assert load_anchor(tmp_path / "again.npz").fingerprint == anchor.fingerprint


def test_default_is_the_papers_log_mel(store, tmp_path):
    assert fit(store, tmp_path / "gmm.npz", "--iterations", "1") == 0
    anchor = load_anchor(tmp_path / "gmm.npz")
    assert (anchor.features, anchor.normalize, anchor.temperature) == ("logmel", "level", 1.0)
    assert np.isfinite(anchor.means).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--components", "100000"], "100000 components need at least as many frames"),
        (["--components", "0"], "--components 0"),
        (["--perplexity", "9"], "--perplexity 9"),
        (["--temperature", "0"], "--temperature 0"),
        (["--seed", "-1"], "--seed -1"),
        (["--features", "plp"], "plp"),
    ],
)
def test_what_cannot_be_is_refused(store, tmp_path, capsys, options, message):
    assert fit(store, tmp_path / "gmm.npz", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "gmm.npz").exists()


def test_a_place_that_cannot_hold_the_anchor_is_refused_at_once(store, tmp_path, capsys):
    assert fit(store, tmp_path) == 2
    assert "is a folder" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert fit(store, tmp_path / "file" / "gmm.npz") == 2
    assert "file is a file, not a folder" in capsys.readouterr().err


def test_a_missing_store_is_named(tmp_path, capsys):
    arguments = ["fit", "gmm", "--store", str(tmp_path / "nowhere"), "--out", str(tmp_path / "gmm.npz")]
    assert main(arguments) == 1
    assert "nowhere" in capsys.readouterr().err
