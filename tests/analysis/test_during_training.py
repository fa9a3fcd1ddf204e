"""The figures of a probe during training, of an encoder whose layers are known."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.labelled_corpus import write_spoken
from training.toy import ToyLabels

from jepa_speech.analysis import clusters, during_training
from jepa_speech.analysis.during_training import Probe, fingerprint, from_folder, from_store, rank
from jepa_speech.errors import UserError
from jepa_speech.features.grid import frames
from jepa_speech.features.spectral import log_mel
from jepa_speech.objective_parts.contract import HasClusters
from jepa_speech.settings.training import MeshConfig
from jepa_speech.training.sharding import array_sharding, make_mesh


class Known(HasClusters):
    """Layer 0 is not probed, layer 1 is log-mel, which shows the tones, and layer 2 a line, which does not.

    Frame t is in cluster t % 2 of 4.
    """

    frame_rate, mask, encoder = 50.0, None, None

    def represent(self, params, aux_state, wave, lengths):
        mel = log_mel(wave) @ params["kernel"]  # (B, T, 80)
        line = jnp.broadcast_to(jnp.sin(jnp.arange(mel.shape[1]))[:, None] * jnp.arange(80.0), mel.shape)
        return [jnp.full_like(mel, jnp.nan), mel, line], frames(lengths)

    def clusters(self, params, aux_state, wave, lengths, mask=None):
        ids = jnp.broadcast_to(jnp.arange(frames(wave.shape[1])) % 2, (len(wave), frames(wave.shape[1])))
        return [jax.nn.one_hot(ids, 4)], frames(lengths)


class Noise:
    """A store of 30 recordings of 0 to 5 s."""

    samples = np.arange(30) * 16_000 // 6

    def __len__(self):
        return len(self.samples)

    def read(self, i, start, samples):
        return np.random.default_rng(i).normal(size=self.samples[i])[start:][:samples].astype(np.float32)


LABELS = SimpleNamespace(slice=ToyLabels().slice, components=50)
PARAMS = {"kernel": jnp.eye(80), "head": {}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_spoken(tmp_path_factory.mktemp("spoken") / "data")


def probe_of(labelled, labels=LABELS):
    return Probe(Known(), MeshConfig(1, 4), from_store(Noise(), labels, 400), labelled)


def test_figures_of_known_layers_on_split_weights(folder):
    """Weights that are split over fsdp, rows over all devices; every figure beside what it is by definition."""
    mesh = make_mesh(MeshConfig(1, 4))
    params = PARAMS | {"kernel": jax.device_put(PARAMS["kernel"], array_sharding(mesh, (80, 80)))}
    probe = probe_of(from_folder(str(folder), 400))
    with jax.transfer_guard("disallow"):  # as in the training loop
        found = probe(params, {})
        assert probe(params, {}) == found
    assert found["probe_phone_layer"] == 1 and found["probe_phone_accuracy"] > 0.9
    assert found["probe_phone_error"] == pytest.approx(1 - found["probe_phone_accuracy"])
    assert found["probe_rank_layer_2"] == pytest.approx(1, abs=1e-3)
    stored = from_store(Noise(), LABELS, 400)
    assert len(stored.waves) == during_training.RECORDINGS and min(map(len, stored.waves)) > 400
    mel = np.concatenate([np.asarray(log_mel(wave[None]))[0] for wave in stored.waves])
    assert found["probe_rank_layer_1"] == pytest.approx(clusters.effective_rank(np.cov(mel.T)), rel=1e-3)
    even = [np.arange(frames(len(wave))) % 2 for wave in stored.waves]
    assert found["probe_usage_entropy"] == pytest.approx(clusters.usage_entropy(clusters.usage(even, 4)), abs=1e-6)
    drawn = np.random.default_rng(during_training.SEED).choice(30, 30, replace=False)
    chosen = [i for i in drawn if Noise.samples[i] >= 400][: len(stored.waves)]
    ids = [(i + np.arange(frames(len(wave)))) % 50 for i, wave in zip(chosen, stored.waves, strict=True)]
    known = clusters.usage_entropy(clusters.usage(ids, 50))
    assert found["probe_target_usage_entropy"] == pytest.approx(known, abs=1e-6)


def test_without_phones_labels_and_head_there_are_ranks_alone():
    found = probe_of({}, labels=None)({"kernel": jnp.eye(80)}, {})
    assert list(found) == ["probe_rank_layer_1", "probe_rank_layer_2"]


def test_what_is_not_finite_has_no_figure(folder):
    found = probe_of(from_folder(str(folder), 400))(PARAMS | {"kernel": jnp.full((80, 80), jnp.nan)}, {})
    assert np.isnan([found["probe_rank_layer_1"], found["probe_phone_accuracy"], found["probe_phone_layer"]]).all()
    assert np.isnan(rank([np.full((3, 2), np.inf)]))


def test_recordings_are_the_same_at_every_start_and_known_by_their_contents(folder, tmp_path):
    first, again = (from_folder(str(folder), 400) for _ in range(2))
    assert fingerprint(first) == fingerprint(again)
    assert {split: len(part) for split, part in first.items()} == {"train": 8, "valid": 4, "test": 6}
    assert fingerprint(from_folder(str(write_spoken(tmp_path / "moved")), 400)) == fingerprint(first)
    assert fingerprint(from_folder(str(write_spoken(tmp_path / "other", seed=1)), 400)) != fingerprint(first)


def test_what_cannot_be_probed_is_one_line(folder, tmp_path):
    with pytest.raises(UserError, match=r"train.manifest.jsonl: no such file"):
        from_folder(str(tmp_path), 400)
    with pytest.raises(UserError, match=r"lasts 0.8 s, and the encoder needs 1 s; leave it out"):
        from_folder(str(folder), 16_000)
    with pytest.raises(UserError, match=r"drew 30 recordings, and all are shorter than 6 s"):
        from_store(Noise(), None, 96_000)
