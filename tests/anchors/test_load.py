import numpy as np
import pytest
from support.damage import KINDS, damage
from support.random_anchors import make_gmm, make_kmeans

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
    rotation = np.random.default_rng(0).normal(size=(80, 80)).astype(np.float32)
    anchor = make(dim=80, features="pca", rotation=rotation)
    anchor.save(tmp_path / "anchor.npz")
    loaded = load_anchor(tmp_path / "anchor.npz")
    np.testing.assert_array_equal(loaded.rotation, rotation)
    assert loaded.fingerprint == anchor.fingerprint != make(dim=80, features="pca", rotation=2 * rotation).fingerprint
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
    for broken in (whole[: len(whole) // 2], b"", b"nonsense", b"PK\3\4garbage"):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=r"anchor\.npz: not an \.npz file, or damaged"):
            load_anchor(path)
    np.savez(path, means=np.zeros(3))
    with pytest.raises(UserError, match=r"anchor\.npz: not an anchor of this program"):
        load_anchor(path)
    np.save(path.with_suffix(".npy"), np.zeros(3))
    path.with_suffix(".npy").replace(path)
    with pytest.raises(UserError, match=r"anchor\.npz"):
        load_anchor(path)


def objects(values):
    found = np.empty(len(values), object)
    found[:] = list(values)
    return found


LAYER = {"features": np.array("layer:2"), "checkpoint_fingerprint": np.array("ab")}
ANY = {  # what may be wrong with an anchor of either kind: the array that is named -> the fields that replace others
    "shift": [
        lambda z: {"shift": z["shift"][0]},
        lambda z: {"shift": np.where(np.arange(39) == 7, np.inf, z["shift"])},
        lambda z: {"shift": z["shift"].astype(str)},
        lambda z: {"shift": None},
        lambda z: {"shift": objects(z["shift"])},
    ],
    "scale": [
        lambda z: {"scale": -z["scale"]},
        lambda z: {"scale": z["scale"] * np.float32(0)},
        lambda z: {"scale": np.full(39, 1e-40, np.float32)},  # z would be infinite
        lambda z: {"scale": z["scale"][:-1]},
        lambda z: {"scale": z["scale"].astype(np.int64)},
    ],
    "rotation": [
        lambda z: {"rotation": np.eye(38, dtype=np.float32)},
        lambda z: {"rotation": np.full((39, 39), np.nan)},
        lambda z: {"features": np.array("pca"), **{name: np.tile(v, 3)[..., :80] for name, v in z.items() if v.ndim}},
    ],
    "features": [
        lambda z: {"features": np.array("mel")},
        lambda z: {"features": np.array("layer:-1")},
        lambda z: {"features": np.array(["mfcc"])},
        lambda z: {"features": np.array(3.0)},
        lambda z: {"features": np.array("logmel")},  # of 80 dimensions
    ],
    "normalize": [lambda z: {"normalize": np.array("Level")}, lambda z: {"normalize": None}],
    "checkpoint_fingerprint": [
        lambda z: LAYER | {"checkpoint_fingerprint": np.array(b"ab")},
        lambda z: LAYER | {"checkpoint_fingerprint": None},
        lambda z: {"checkpoint_fingerprint": np.array("ab")},
    ],
    "checkpoint": [lambda z: LAYER | {"checkpoint": np.arange(3)}],
    "covariances": [lambda z: {"covariances": np.zeros(3)}],
}
MIXTURE = {
    "means": [
        lambda z: {"means": z["means"] + 1j},
        lambda z: {"means": z["means"].T},
        lambda z: {"means": np.where(np.arange(39) == 3, np.nan, z["means"])},
    ],
    "variances": [
        lambda z: {"variances": z["variances"] * np.where(np.arange(39) == 38, -1, 1)},
        lambda z: {"variances": z["variances"] * np.where(np.arange(39) == 0, 0, 1)},
        lambda z: {"variances": z["variances"][:4]},
        lambda z: {"variances": np.full_like(z["variances"], np.inf)},
    ],
    "linear": [lambda z: {"variances": np.full_like(z["variances"], 1e-40)}],  # mean / variance is infinite
    "constant": [lambda z: {"means": np.full_like(z["means"], 1e30)}],
    "weights": [
        lambda z: {"weights": z["weights"] * 2},
        lambda z: {"weights": z["weights"] * np.where(np.arange(16) == 3, -1, 1)},
        lambda z: {"weights": z["weights"][:, None]},
    ],
    "temperature": [
        lambda z, value=value: {"temperature": np.array(value)}
        for value in (0.0, -1, np.nan, np.inf, 1e60, "1", True, [1.0])
    ],
    "components": [lambda z: {name: z[name][:0] for name in ("means", "variances", "weights")}],
}
CENTROIDS = {
    "centroids": [
        lambda z: {"centroids": np.full_like(z["centroids"], -np.inf)},
        lambda z: {"centroids": z["centroids"].ravel()},
        lambda z: {"centroids": z["centroids"].astype("U8")},
    ],
    "components": [lambda z: {"centroids": z["centroids"][:0]}],
    "temperature": [lambda z: {"temperature": np.array(1.0)}],  # a mixture's
}


@pytest.mark.parametrize(("make", "wrong"), [(make_gmm, ANY | MIXTURE), (make_kmeans, ANY | CENTROIDS)])
def test_every_array_is_checked_for_shape_type_finiteness_and_sign(tmp_path, make, wrong):
    whole, path = tmp_path / "whole.npz", tmp_path / "anchor.npz"
    make().save(whole)
    fields = dict(np.load(whole))
    for name, changes in wrong.items():
        for change in changes:
            changed = {key: value for key, value in (fields | change(fields)).items() if value is not None}
            np.savez(path, **changed)
            with pytest.raises(UserError, match=rf"anchor\.npz: .*({name}|numbers and text)") as error:
                load_anchor(path)
            assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", [{"temperature": np.array(2)}, {"weights": np.full(16, 1 / 16)}, LAYER])
def test_sound_values_of_other_types_are_taken(tmp_path, change):
    make_gmm().save(tmp_path / "whole.npz")
    np.savez_compressed(tmp_path / "anchor.npz", **(dict(np.load(tmp_path / "whole.npz")) | change))
    load_anchor(tmp_path / "anchor.npz")


def test_no_random_damage_passes_for_an_anchor(tmp_path):
    """Flipped bits of a zip archive that are not read, such as times, leave the same anchor."""
    random, unseen = np.random.default_rng(0), 0
    anchor, path = make_gmm(features="layer:6", checkpoint="runs/one", checkpoint_fingerprint="ab"), tmp_path / "a.npz"
    for attempt in range(150):
        anchor.save(path)
        done = damage(path, random, ["flip"] if attempt % 3 else list(KINDS))
        try:
            loaded = load_anchor(path)
        except UserError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error), done
        else:
            unseen += 1
            assert done.kind == "flip" and loaded.fingerprint == anchor.fingerprint, done
            assert (loaded.checkpoint, loaded.temperature) == (anchor.checkpoint, anchor.temperature), done
    assert unseen < 30


def test_a_header_that_asks_for_less_is_named(tmp_path):
    """numpy.load accepts this: it reads fewer values, and so never comes to where the checksum is compared."""
    path = tmp_path / "anchor.npz"
    make_kmeans().save(path)
    data = path.read_bytes()
    assert data.count(b"'shape': (16, 39)") == 1
    path.write_bytes(data.replace(b"'shape': (16, 39)", b"'shape': (12, 39)"))
    with pytest.raises(UserError, match=r"Bad CRC-32 for file 'centroids\.npy'"):
        load_anchor(path)
