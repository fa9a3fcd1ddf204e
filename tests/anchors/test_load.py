import numpy as np
import pytest
from made_anchors import make_gmm, make_kmeans

from jepa_speech.anchors.gmm import DiagonalGMM
from jepa_speech.anchors.kmeans import KMeans
from jepa_speech.anchors.load import load_anchor
from jepa_speech.errors import UserError


@pytest.mark.parametrize(("make", "kind"), [(make_gmm, DiagonalGMM), (make_kmeans, KMeans)])
def test_an_anchor_comes_back_as_what_it_was(tmp_path, make, kind):
    anchor = make(features="layer:6", normalize="mean", checkpoint="runs/one", checkpoint_fingerprint="ab")
    anchor.save(tmp_path / "anchor.npz")
    loaded = load_anchor(tmp_path / "anchor.npz")
    assert type(loaded) is kind
    assert loaded.fingerprint == anchor.fingerprint
    for name in ("features", "normalize", "checkpoint", "checkpoint_fingerprint"):
        assert getattr(loaded, name) == getattr(anchor, name)
        assert type(getattr(loaded, name)) is str
    assert [file.name for file in tmp_path.iterdir()] == ["anchor.npz"]


@pytest.mark.parametrize("make", [make_gmm, make_kmeans])
def test_a_rotation_is_kept_and_counts(tmp_path, make):
    rotation = np.random.default_rng(0).normal(size=(39, 39)).astype(np.float32)
    anchor = make(features="pca", rotation=rotation)
    anchor.save(tmp_path / "anchor.npz")
    loaded = load_anchor(tmp_path / "anchor.npz")
    np.testing.assert_array_equal(loaded.rotation, rotation)
    assert loaded.fingerprint == anchor.fingerprint != make(features="pca", rotation=2 * rotation).fingerprint
    assert make().rotation is None


@pytest.mark.parametrize("make", [make_gmm, make_kmeans])
def test_the_checkpoints_weights_count_but_not_where_it_lay(make):
    same, moved, other = (
        make(features="layer:6", checkpoint=path, checkpoint_fingerprint=weights).fingerprint
        for path, weights in (("a", "x"), ("b", "x"), ("a", "y"))
    )
    assert same == moved != other


def test_what_is_not_an_anchor_is_refused_by_name(tmp_path):
    path = tmp_path / "anchor.npz"
    with pytest.raises(UserError, match=r"anchor\.npz: no such anchor"):
        load_anchor(path)
    make_gmm().save(path)
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"nonsense"):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=r"anchor\.npz: not an anchor, or broken"):
            load_anchor(path)
    np.savez(path, means=np.zeros(3))
    with pytest.raises(UserError, match=r"anchor\.npz: not an anchor of this program"):
        load_anchor(path)
    np.save(path.with_suffix(".npy"), np.zeros(3))
    path.with_suffix(".npy").replace(path)
    with pytest.raises(UserError, match=r"anchor\.npz"):
        load_anchor(path)
