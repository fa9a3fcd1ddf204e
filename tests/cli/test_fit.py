"""The verb: what it prints and writes, its bars and exit codes."""

import json

import pytest
from support.clustered_audio import babble_store

from jepa_speech.anchors.load import load_anchor
from jepa_speech.cli import main


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return babble_store(tmp_path_factory.mktemp("fit"), [0.8, 1.5, 0.6, 1.9])


def fit(store, out, *options, kind="gmm"):
    return main(["fit", kind, "--store", str(store.path), "--out", str(out), "--components", "8", *options])


def files_in(folder):
    """The names of files, but for those of locks, which stay."""
    return sorted(file.name for file in folder.iterdir() if not file.name.endswith(".jepa-speech.lock"))


def test_fit_writes_an_anchor_and_says_what_it_is(store, tmp_path, capsys):
    out, report = tmp_path / "deep" / "gmm.npz", tmp_path / "report.json"
    options = ["--features", "mfcc", "--normalize", "mean", "--perplexity", "3", "--iterations", "4", "--hours", "all"]
    assert fit(store, out, *options, "--json", str(report)) == 0
    anchor, results = load_anchor(out), json.loads(report.read_text())
    assert results["fingerprint"] == anchor.fingerprint
    shown = capsys.readouterr()
    for piece in (
        f"anchor       {out}  (mfcc, normalized by mean)\n",
        "components   8 alive of 8, 0 reseeded\n",
        f"posteriors   at temperature {anchor.temperature:.3g}: entropy ",
        f"held out     {results['heldout_log_likelihood'][0]:.2f} to ",
    ):
        assert piece in shown.out
    for bar in ("means", "features", "EM"):
        assert "100%" in shown.err.rsplit(f"{bar}: ", 1)[1], bar

    rows = [json.loads(line) for line in (out.parent / "gmm.metrics.jsonl").read_text().splitlines()]
    assert [row["pass"] for row in rows] == list(range(len(rows)))
    assert [row["heldout"] for row in rows[1:]] == results["heldout_log_likelihood"]
    assert rows[-1]["temperature"] == anchor.temperature
    assert rows[-1]["alive"] == 8
    assert files_in(out.parent) == ["gmm.metrics.jsonl", "gmm.npz", "gmm.png"]


def test_fit_kmeans_says_what_it_is(store, tmp_path, capsys):
    out = tmp_path / "km.npz"
    assert fit(store, out, "--seed", "4", "--iterations", "5", "--algorithm", "minibatch", kind="kmeans") == 0
    shown = capsys.readouterr().out
    for piece in (f"anchor       {out}  (mfcc100, normalized by level)\n", "8 alive of 8", "held out     inertia "):
        assert piece in shown


def test_a_curve_is_a_table(store, tmp_path, capsys):
    hours = f"{store.hours * 0.999:.6f}"
    assert fit(store, tmp_path / "a.npz", "--iterations", "1", "--features", "mfcc", "--curve", hours) == 0
    shown = capsys.readouterr().out
    assert "same label\n" in shown and f"curve        {tmp_path / 'a.curve.png'}" in shown
    assert f"{float(hours):8g} " in shown


@pytest.mark.parametrize(
    ("kind", "options", "code", "message"),
    [
        ("gmm", ["--perplexity", "9"], 2, "perplexity = 9: choose one above 1 and below 8 components"),
        ("gmm", ["--perplexity", "3", "--temperature", "1"], 2, "not allowed with argument"),
        ("kmeans", ["--hours", "some"], 2, "invalid hours value: 'some'"),
        ("kmeans", ["--features", "layer:1", "--checkpoint", "nowhere"], 1, "nowhere: not a run folder"),
        ("kmeans", ["--algorithm", "elkan"], 2, "elkan"),
        ("kmeans", ["--curve", "0.001", "99"], 2, "hours = 99: choose hours above 0, up to the"),
    ],
)
def test_what_cannot_be_is_refused(kind, options, code, message, store, tmp_path, capsys):
    assert fit(store, tmp_path / "anchor.npz", *options, kind=kind) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "anchor.npz").exists()
