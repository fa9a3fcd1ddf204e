import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_speech.errors import UsageError
from jepa_speech.features.grid import frames
from jepa_speech.features.spectral import log_mel
from jepa_speech.nn.blocks import rotate
from jepa_speech.nn.build_encoder import standardise
from jepa_speech.nn.encoder import Encoder, EncoderConfig
from jepa_speech.nn.frontends import SUBSAMPLED, dense_log_mel
from jepa_speech.nn.module import Pure
from jepa_speech.nn.row_random import dropout

TINY = {"channels": 8, "width": 16, "blocks": 2, "heads": 2, "hidden": 32, "kernel": 5}


@pytest.mark.parametrize("name", ["conformer", "transformer"])
@pytest.mark.parametrize("frontend", ["conv", "logmel"])
def test_shapes_and_frames(name, frontend):
    config = EncoderConfig(name=name, frontend=frontend, **TINY)
    encoder = Pure(lambda rngs: Encoder(config, "learned", rngs))
    params = jax.eval_shape(encoder.init, jax.random.key(0))
    for samples in (400, 719, 720, 16_000):
        wave, lengths = jnp.zeros((2, samples)), jnp.array([samples, 400])
        encoded = jax.eval_shape(encoder.apply, params, wave, lengths)
        assert encoded.z.shape == (2, frames(samples), 16)
        assert len(encoded.layers) == 3 and len(encoded.ff) == 2
        assert encoded.frame_lengths.shape == (2,)
        assert encoded.features.shape[:2] == encoded.energy.shape == (2, frames(samples))


@pytest.mark.parametrize(("name", "hop", "window"), [("subsampled", 640, 1360), ("subsampled50", 320, 880)])
def test_subsampled_frames(name, hop, window):
    """The frames of the interleaved log-mel are those of their own windows, and the convolutions give as many frames as
    the config says.
    """
    config = EncoderConfig(frontend=name, **TINY)
    assert (config.frame_rate, config.min_samples) == (16_000 / hop, window)
    encoder = Pure(lambda rngs: Encoder(config, "learned", rngs))
    params = jax.eval_shape(encoder.init, jax.random.key(0))
    step = hop // 4
    for samples in (window, window + step - 1, window + hop - 1, window + hop, 16_000):
        wave = jax.random.normal(jax.random.key(1), (1, samples))
        dense = jax.jit(dense_log_mel, static_argnums=1)(wave, SUBSAMPLED[name])
        assert dense.shape[1] == (samples - 400) // step + 1
        windows = np.stack([np.asarray(wave)[0, i * step : i * step + 400] for i in range(7)])
        np.testing.assert_allclose(dense[0, :7], log_mel(windows)[:, 0], atol=1e-4)  # of logarithms of float32 FFTs
        encoded = jax.eval_shape(encoder.apply, params, wave, jnp.array([samples]))
        assert encoded.z.shape == (1, (samples - window) // hop + 1, 16)
        assert config.frames(samples) == encoded.z.shape[1] and config.frames(window - 1) == 0


def test_frame_counts_of_the_convolutions_are_those_of_wav2vec2():
    """Recipes: 400 -> 1, 16000 -> 49, 240000 -> 749, 250000 -> 781."""
    assert [frames(n) for n in (399, 400, 16_000, 240_000, 250_000)] == [0, 1, 49, 749, 781]


def test_rotary_positions_depend_only_on_distance():
    q, k = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, 8))
    row_q, row_k = rotate(jnp.tile(q, (1, 12, 1, 1))), rotate(jnp.tile(k, (1, 12, 1, 1)))
    scores = jnp.einsum("bthd,bshd->ts", row_q, row_k)
    np.testing.assert_allclose(np.diagonal(scores, 3), scores[0, 3], atol=1e-5)
    assert abs(scores[0, 3] - scores[0, 4]) > 1e-4


def test_dropout_keeps_the_mean_and_belongs_to_the_row():
    keys = jax.random.split(jax.random.key(0), 3)
    x = jnp.ones((3, 100, 20))
    y = dropout(x, 0.25, keys)
    np.testing.assert_allclose(np.unique(y), [0, 4 / 3], rtol=1e-6)
    assert abs(y.mean() - 1) < 0.03
    np.testing.assert_array_equal(dropout(x[1:2], 0.25, keys[1:2]), y[1:2])
    np.testing.assert_array_equal(dropout(x, 0.25, None), x)


def test_standardise_counts_only_valid_samples_and_survives_silence():
    wave = np.random.default_rng(0).normal(3, 2, (2, 1000)).astype(np.float32)
    wave[1] = 0.5  # a constant: nothing but its mean
    wave[0, 600:] = 99  # beyond the row's length
    out = np.asarray(standardise(jnp.asarray(wave), jnp.array([600, 1000])))
    assert abs(out[0, :600].mean()) < 1e-5
    assert abs(np.square(out[0, :600]).mean() - 1) < 1e-5
    assert not out[0, 600:].any()
    assert not out[1].any()


def test_heads_must_divide_the_width():
    with pytest.raises(UsageError, match=r"encoder\.width = 20"):
        EncoderConfig(width=20, heads=8)


@pytest.mark.parametrize("frontend", ["logmel", "subsampled"])
def test_noise_in_place_of_log_mel_frames(frontend):
    """What lies under masked frames changes nothing, the draws do; a padded row is as alone, its last frame masked."""
    config = EncoderConfig(frontend=frontend, dropout=0.0, **TINY | {"blocks": 1})
    encoder = Pure(lambda rngs: Encoder(config, "noise", rngs))
    params, apply = jax.jit(encoder.init)(jax.random.key(0)), jax.jit(encoder.apply)
    assert "mask_embedding" not in params
    hop, keys = round(16_000 / config.frame_rate), jax.random.split(jax.random.key(1), 2)
    lengths = jnp.array([20 * hop + config.min_samples, 9 * hop + config.min_samples])  # 21 frames, and 10
    wave = standardise(jax.random.normal(jax.random.key(2), (2, int(lengths[0]))), lengths)
    mask = jnp.zeros((2, 21), bool).at[:, 5:10].set(True)
    out = apply(params, wave, lengths, mask, keys)
    hidden = slice(4 * hop + config.min_samples, 10 * hop)  # no visible frame reaches these samples
    other = apply(params, wave.at[:, hidden].set(1.5), lengths, mask, keys)
    np.testing.assert_array_equal(out.z[0], other.z[0])
    np.testing.assert_array_equal(out.z[1, :10], other.z[1, :10])
    assert np.abs(out.z - apply(params, wave, lengths, mask, keys[::-1]).z).max() > 0.01
    alone = apply(params, wave[1:, : int(lengths[1])], lengths[1:], mask[1:, :10], keys[1:])
    np.testing.assert_allclose(out.z[1, :10], alone.z[0], atol=1e-5)
