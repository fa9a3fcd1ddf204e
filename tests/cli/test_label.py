import json

import pytest
from support.clustered_audio import babble_store

from jepa_speech.anchors.load import load_anchor
from jepa_speech.cli import main
from jepa_speech.errors import UserError
from jepa_speech.labelling import parts as label_parts
from jepa_speech.store.labels import Labels


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("label")
    store, anchor = babble_store(folder, [0.8, 1.5, 0.6]), folder / "gmm.npz"
    options = ["--components", "8", "--features", "mfcc", "--normalize", "mean", "--iterations", "2"]
    assert main(["fit", "gmm", "--store", str(store.path), "--out", str(anchor), *options]) == 0
    return store, anchor


def test_parts_for_array_jobs(made, monkeypatch, capsys):
    store, anchor = made
    monkeypatch.setattr(label_parts, "CHUNK_FRAMES", 40)
    for option, part in (("--part", "0/2"), ("--shard", "1/2")):  # the second is its older name
        with pytest.raises(UserError, match="part 1/2 is unfinished" if part == "1/2" else "no labels of anchor"):
            label_parts.merge_label_parts(store)
            Labels(store, load_anchor(anchor))
        arguments = ["label", "--store", str(store.path), "--anchor", str(anchor), "--top-k", "2"]
        assert main([*arguments, option, part]) == 0
        shown = capsys.readouterr()
        assert f"part {part} is written; when all are, `jepa-speech inspect" in shown.out
        assert ("--shard is named --part now\n" in shown.err) == (option == "--shard")
    assert label_parts.merge_label_parts(store) == [Labels(store, load_anchor(anchor)).path]
    assert main([*arguments, "--part", "2/2"]) == 2
    assert "'2/2' is no part: I/N with 0 <= I < N" in capsys.readouterr().err


def size(folder):
    return sum(file.stat().st_size for file in folder.iterdir())


def test_label_writes_once(made, tmp_path, capsys):
    store, anchor = made
    report = tmp_path / "report.json"
    arguments = ["label", "--store", str(store.path), "--anchor", str(anchor), "--json", str(report)]
    assert main([*arguments, "--top-k", "3"]) == 0
    assert "100%" in capsys.readouterr().err.rsplit("label: ", 1)[1]
    results = json.loads(report.read_text())
    labels = Labels(store, load_anchor(anchor))
    assert (labels.top_k, labels.components) == (3, 8)
    assert 1 < results["bytes_per_frame"] == pytest.approx(size(labels.path) / labels.meta["frames"])
    assert results["bytes_per_hour"] == pytest.approx(size(labels.path) / store.hours)
    assert 0.5 < results["mean_kept_mass"] <= 1
    assert not results["already_labelled"]

    capsys.readouterr()
    written = (labels.path / "blocks.bin").stat().st_mtime_ns
    assert main([*arguments, "--top-k", "3"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert (labels.path / "blocks.bin").stat().st_mtime_ns == written

    assert main([*arguments, "--top-k", "5"]) == 0
    assert Labels(store, load_anchor(anchor)).top_k == 5

    (labels.path / "blocks.bin").write_bytes(b"")
    assert main([*arguments, "--top-k", "5"]) == 0
    assert "labelled again" in capsys.readouterr().err
    assert Labels(store, load_anchor(anchor)).top_k == 5


def test_what_cannot_be_is_refused(made, tmp_path, capsys):
    store, anchor = made
    assert main(["label", "--store", str(store.path), "--anchor", str(anchor), "--top-k", "9"]) == 2
    assert "top_k = 9: choose 1 to 8" in capsys.readouterr().err
    assert main(["label", "--store", str(store.path), "--anchor", str(tmp_path / "none.npz")]) == 1
    assert "none.npz: no such anchor" in capsys.readouterr().err
    (tmp_path / "broken.npz").write_bytes(anchor.read_bytes()[:500])
    assert main(["label", "--store", str(store.path), "--anchor", str(tmp_path / "broken.npz")]) == 1
    assert "broken.npz" in capsys.readouterr().err
