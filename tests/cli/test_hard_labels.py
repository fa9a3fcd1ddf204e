"""Training on k-means labels, by an objective that was made for posteriors: stored or computed in the step."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from support import toys
from support.clustered_audio import babble_store

from jepa_speech.anchors.load import load_anchor
from jepa_speech.cli import main
from jepa_speech.errors import UsageError
from jepa_speech.features import grid
from jepa_speech.features.spectral import delta_edge
from jepa_speech.objective_parts.anchored import AnchorTargets
from jepa_speech.settings.run_config import AnchorConfig
from jepa_speech.store.labels import Labels
from jepa_speech.training.resolve import with_anchor

TINY = Path(__file__).parents[2] / "configs" / "tiny.py"
SMALL = {"data.buckets": "1.0", "train.steps": "2"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store labelled by k-means of 6 centroids on mfcc100."""
    folder = tmp_path_factory.mktemp("hard")
    store, anchor = babble_store(folder, [0.9, 0.9, 1.3, 0.9]), folder / "km.npz"
    assert main(["fit", "kmeans", "--store", str(store.path), "--out", str(anchor), "--components", "6"]) == 0
    assert main(["label", "--store", str(store.path), "--anchor", str(anchor)]) == 0
    return store, anchor


def section(anchor, **keys):
    keys = {"path": "km.npz", "source": "stored", "components": 0, "features": "", "normalize": "", "top_k": 16} | keys
    return with_anchor(toys.typed(toys.toy_config(anchor=keys)), anchor).anchor


def test_the_config_is_filled_in_from_the_centroids(made):
    anchor = load_anchor(made[1])
    filled = section(anchor)
    assert (filled.components, filled.features, filled.normalize, filled.top_k) == (6, "mfcc100", "level", 1)
    with pytest.raises(UsageError, match=r"anchor\.components = 100, but km\.npz has 6"):
        section(anchor, components=100)


def test_a_layer_cannot_be_computed_in_the_step(made):
    anchor = load_anchor(made[1])
    object.__setattr__(anchor, "features", "layer:6")
    object.__setattr__(anchor, "checkpoint_fingerprint", "ab")
    assert section(anchor).features == "layer:6"
    with pytest.raises(UsageError, match=r"anchor\.source = online, but km\.npz was fitted to layer:6 of a checkpoint"):
        section(anchor, source="online")


def test_stored_and_online_labels_are_the_same(made):
    """But for the frames at a crop's edges where deltas would see beyond it, which have none online."""
    store, anchor = made[0], load_anchor(made[1])
    first, frames = 9, 40
    samples = grid.samples(frames)
    clean = jnp.asarray(store.read(2, first * grid.HOP, samples))[None] / store.level[2]
    online = AnchorTargets(AnchorConfig(source="online", components=6, features="mfcc100", top_k=1), anchor)
    batch = {"lengths": jnp.array([samples])}
    ids, q, labelled = online(online.init(), batch, clean, jnp.array([frames]), frames)
    np.testing.assert_array_equal(q, 1)
    edge = delta_edge("mfcc100")
    np.testing.assert_array_equal(np.flatnonzero(labelled[0]), np.arange(edge, frames - edge))
    stored, _ = Labels(store, anchor).slice(2, first, frames)
    assert (np.asarray(ids)[0, edge:-edge] == stored[edge:-edge]).all()
    assert len(np.unique(stored)) > 1


@pytest.mark.slow
def test_a_model_trains_on_them(made, tmp_path):
    store, anchor = made
    keys = SMALL | {"data.store": str(store.path), "anchor.path": str(anchor)}
    overrides = [f"--config.{key}={value}" for key, value in keys.items()]
    assert main(["train", "--config", str(TINY), "--workdir", str(tmp_path / "run"), *overrides]) == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["cluster"] == pytest.approx(np.log(6), rel=0.5)  # the cross-entropy of a uniform head
    assert rows[0]["posterior_entropy"] == pytest.approx(0, abs=1e-5)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["anchor"]["top_k"] == 1
