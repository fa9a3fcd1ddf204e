"""Several anchors with weights as one target: what is learnt of each, what is read, what is refused."""

import json
import pickle
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from support.clustered_audio import babble_store
from support.toys import toy_anchor

from jepa_speech.anchors.ensemble import open_anchors
from jepa_speech.anchors.sparse import kl_to_sparse
from jepa_speech.batches.joined_labels import stored_labels
from jepa_speech.cli import main
from jepa_speech.store.labels import Labels

TINY = Path(__file__).parents[2] / "configs" / "tiny.py"
KINDS = {"logmel": 8, "mfcc": 6}  # components


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store with the labels of two anchors of different features: the store, `data.store`-like paths of both."""
    folder = tmp_path_factory.mktemp("made")
    store = babble_store(folder, [0.4, 0.9, 0.3, 1.3, 0.45])
    for kind, components in KINDS.items():
        path = folder / f"{kind}.npz"
        toy_anchor(kind, components).save(path)
        assert main(["label", "--store", str(store.path), "--anchor", str(path), "--top-k", "4"]) == 0
    return store, f"{folder}/logmel.npz:3,{folder}/mfcc.npz:1"


def test_each_member_is_learnt_by_its_weight():
    """KL(q ‖ p) = KL(w ‖ p(m)) + Σ w_m KL(q_m ‖ p(· | m)), computed by hand from dense posteriors."""
    random, weights, counts = np.random.default_rng(0), np.array([0.75, 0.25]), (5, 3)
    members = [random.dirichlet(np.ones(k), 20) for k in counts]  # (20, K_m)
    p = random.dirichlet(np.ones(8), 20)
    ids = np.tile(np.arange(8), (20, 1))
    q = np.concatenate([w * member for w, member in zip(weights, members, strict=True)], axis=1)
    parts = np.split(p, [5], axis=1)
    shares = np.stack([part.sum(1) for part in parts], axis=1)  # p(m)
    expected = (weights * np.log(weights / shares)).sum(1)
    for w, member, part in zip(weights, members, parts, strict=True):
        expected += w * (member * np.log(member / (part / part.sum(1, keepdims=True)))).sum(1)
    found = kl_to_sparse(jnp.asarray(ids), jnp.asarray(q), jnp.log(p))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_labels_side_by_side_most_likely_first(made):
    store, text = made
    ensemble = open_anchors(text)
    assert ensemble.weights == [0.75, 0.25] and ensemble.components == 14
    ids, probs = pickle.loads(pickle.dumps(stored_labels(store, ensemble.fingerprint))).slice(3, 10, 30)
    assert ids.shape == probs.shape == (30, 8) and (np.diff(probs, axis=1) <= 0).all()
    dense = np.zeros((30, 14), np.float32)
    np.add.at(dense, (np.arange(30)[:, None], ids), probs)
    expected, first = np.zeros_like(dense), 0
    for member, weight in zip(ensemble.members, ensemble.weights, strict=True):
        its_ids, its = Labels(store, member).slice(3, 10, 30)
        np.add.at(expected, (np.arange(30)[:, None], its_ids + first), weight * its)
        first += member.components
    np.testing.assert_allclose(dense, expected, atol=1e-7)


def train(made, run: Path, variant: str = "", **changes: str) -> int:
    store, text = made
    keys = {"data.store": str(store.path), "anchor.path": text, "train.steps": "2", "data.buckets": "1.0"}
    keys |= {key.replace("__", "."): value for key, value in changes.items()}
    overrides = [f"--config.{key}={value}" for key, value in keys.items()]
    return main(["train", "--config", f"{TINY}{variant}", "--workdir", str(run), *overrides])


def test_a_model_trains_on_them_and_is_evaluated(made, tmp_path):
    assert train(made, tmp_path / "run") == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["anchor"]["components"], config["anchor"]["features"]) == (14, "logmel + mfcc")
    arguments = ["--checkpoint", str(tmp_path / "run"), "--store", str(made[0].path)]
    assert main(["evaluate", *arguments, "--json", str(tmp_path / "e.json")]) == 0
    # The weights alone have an entropy of 0.56 nats; a member's posterior adds to it.
    assert json.loads((tmp_path / "e.json").read_text())["posterior_entropy"] > 0.56


@pytest.mark.parametrize(
    ("variant", "changes", "message"),
    [
        (":hubert", {}, "predicts the units of one anchor"),
        ("", {"anchor__source": "online"}, "anchor.source = online takes one anchor"),
        ("", {"anchor__components": "8"}, "anchor.components = 8, but"),
        ("", {"anchor__path": "a.npz:1,b.npz:none"}, "config key anchor.path: 'b.npz:none' in a mixture"),
    ],
)
def test_what_cannot_be_is_told(variant, changes, message, made, tmp_path, capsys):
    assert train(made, tmp_path / "run", variant, **changes) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_a_member_named_twice(made, tmp_path, capsys):
    path = made[1].partition(":")[0]
    assert train(made, tmp_path / "run", anchor__path=f"{path}:1,{path}:2") == 2
    assert "name one of them" in capsys.readouterr().err


def test_a_store_without_the_labels_of_a_member(made, tmp_path, capsys):
    toy_anchor("mfcc", 5).save(tmp_path / "other.npz")
    path = made[1].partition(":")[0]
    assert train(made, tmp_path / "run", anchor__path=f"{path}:1,{tmp_path / 'other.npz'}:2") == 1
    assert "no labels of anchor" in capsys.readouterr().err
