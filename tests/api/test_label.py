"""`jepa_speech.label`."""

import pytest
from support.clustered_audio import babble_store
from support.random_anchors import make_gmm

import jepa_speech
from jepa_speech.errors import UsageError, UserError
from jepa_speech.labelling import parts as label_parts
from jepa_speech.store.labels import Labels


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store, an anchor and its file."""
    folder = tmp_path_factory.mktemp("label")
    anchor = make_gmm(components=8, dim=39, features="mfcc")
    anchor.save(folder / "gmm.npz")
    return babble_store(folder, [0.8, 1.5, 0.6]), anchor, folder / "gmm.npz"


def size(folder):
    return sum(file.stat().st_size for file in folder.iterdir())


def test_parts_make_a_whole_label_set(made, monkeypatch):
    store, anchor, file = made
    monkeypatch.setattr(label_parts, "CHUNK_FRAMES", 40)
    for i in (0, 1):
        results = jepa_speech.label(store.path, file, top_k=2, part=(i, 2))
        known = {"store": str(store.path), "anchor": anchor.fingerprint, "replaced": "", "whole": False}
        assert results == known | {"part": f"{i}/2"}
    assert jepa_speech.merge_parts(store.path)["labels"] == [Labels(store, anchor).path.name]
    with pytest.raises(UsageError, match=r"part = \(2, 2\): choose \(i, n\)"):
        jepa_speech.label(store.path, file, part=(2, 2))


def test_labels_are_written_once_and_broken_ones_again(made, capsys):
    store, anchor, file = made
    results = jepa_speech.label(store.path, file, top_k=3, progress=True)
    assert "100%" in capsys.readouterr().err.rsplit("label: ", 1)[1]
    labels = Labels(store, anchor)
    assert (labels.top_k, labels.components) == (results["top_k"], results["components"]) == (3, 8)
    assert 1 < results["bytes_per_frame"] == pytest.approx(size(labels.path) / labels.meta["frames"])
    assert results["bytes_per_hour"] == pytest.approx(size(labels.path) / store.hours)
    assert 0 < results["mean_kept_mass"] <= 1
    assert (results["already_labelled"], results["replaced"]) == (False, "")

    written = (labels.path / "blocks.bin").stat().st_mtime_ns
    again = jepa_speech.label(store.path, file, top_k=3)
    assert again["already_labelled"] and again | {"seconds": 0} == results | {"already_labelled": True, "seconds": 0}
    assert (labels.path / "blocks.bin").stat().st_mtime_ns == written

    assert jepa_speech.label(store.path, file, top_k=5)["top_k"] == Labels(store, anchor).top_k == 5
    (labels.path / "blocks.bin").write_bytes(b"")
    assert "blocks.bin" in jepa_speech.label(store.path, file, top_k=5)["replaced"]
    assert Labels(store, anchor).top_k == 5


def test_what_cannot_be_is_refused(made, tmp_path):
    store, _, file = made
    with pytest.raises(UsageError, match=r"^top_k = 9: choose 1 to 8"):
        jepa_speech.label(store.path, file, top_k=9)
    with pytest.raises(UserError, match=r"none.npz: no such anchor"):
        jepa_speech.label(store.path, tmp_path / "none.npz")
    (tmp_path / "broken.npz").write_bytes(file.read_bytes()[:500])
    with pytest.raises(UserError, match=r"broken.npz"):
        jepa_speech.label(store.path, tmp_path / "broken.npz")
