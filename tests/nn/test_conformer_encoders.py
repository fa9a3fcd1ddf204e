"""The published conformers, apart from what tests/parity compares with transformers."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_speech.errors import UsageError
from jepa_speech.nn.build_encoder import standardise
from jepa_speech.nn.conformer_blocks import FrozenBatchNorm
from jepa_speech.nn.conformer_encoders import ConformerEncoder, Wav2Vec2BertConfig, Wav2Vec2ConformerConfig
from jepa_speech.nn.module import Pure

SIZES = {"width": 12, "blocks": 2, "heads": 2, "hidden": 16, "kernel": 5}
CONFORMER = Wav2Vec2ConformerConfig(channels=8, **SIZES)
BERT = Wav2Vec2BertConfig(before=3, after=2, **SIZES)


def pure(config):
    return Pure(lambda rngs: ConformerEncoder(config, "learned", rngs))


@pytest.fixture(scope="module", params=[CONFORMER, BERT], ids=lambda config: config.name)
def encoder(request):
    """(config, compiled apply on drawn parameters)."""
    made, rng = pure(request.param), np.random.default_rng(1)

    def drawn(leaf):
        scale = 0.1 if len(leaf.shape) == 1 else np.prod(leaf.shape[:-1]) ** -0.5
        return jnp.asarray(rng.normal(size=leaf.shape) * scale + (len(leaf.shape) == 1), jnp.float32)

    params = jax.tree.map(drawn, jax.eval_shape(made.init, jax.random.key(0)))
    return request.param, jax.jit(lambda *batch: made.apply(params, *batch))


def test_neither_padding_nor_hidden_samples_reach_another_frame(encoder):
    """Rows have odd and even numbers of frames at 100 Hz. Samples that visible frames see, too, stay as they are."""
    config, apply = encoder
    lengths = jnp.array([8_000, 4_620, 4_460])
    noise = np.random.default_rng(0).normal(0, 1, (3, 8_000)).astype(np.float32)
    wave = standardise(jnp.asarray(noise), lengths)
    mask = jnp.zeros((3, config.frames(8_000)), bool).at[:, 5:10].set(True)
    seen = apply(wave, lengths, mask)
    assert len(seen.layers) == 3 and seen.features.shape == (*mask.shape, config.features)
    hidden = (jnp.arange(8_000) >= 320 * 5 + config.min_samples - 320) & (jnp.arange(8_000) < 320 * 10)
    padding = jnp.arange(8_000) >= lengths[:, None]
    changed = apply(jnp.where(hidden, 1.5, jnp.where(padding, 3.0, wave)), lengths, mask)
    inside = np.arange(mask.shape[1]) < np.asarray(seen.frame_lengths)[:, None]
    for ours, theirs in zip(changed.layers, seen.layers, strict=True):
        np.testing.assert_allclose(ours[inside], theirs[inside], atol=1e-5)
    still = inside & ~np.asarray(mask)
    np.testing.assert_allclose(changed.features[still], seen.features[still], atol=1e-5)
    assert np.abs(apply(jnp.where(hidden, 1.5, wave), lengths, ~inside).z - seen.z)[inside].max() > 0.1


@pytest.mark.parametrize(
    ("samples", "conformer", "bert"),
    [(400, 1, 0), (559, 1, 0), (560, 1, 1), (879, 2, 1), (880, 2, 2), (16_000, 49, 49)],
)
def test_frame_counts(samples, conformer, bert):
    assert (CONFORMER.frames(samples), BERT.frames(samples)) == (conformer, bert)


def test_statistics_of_a_batch_norm_do_not_learn():
    made, x = Pure(lambda rngs: FrozenBatchNorm(3)), jnp.array([[3.0, -1.0, 5.0]])
    params = {
        "scale": jnp.ones(3),
        "bias": jnp.zeros(3),
        "mean": jnp.array([1.0, -2, 0]),
        "variance": jnp.array([4, 0.25, 1]),
    }
    out, gradient = jax.jit(jax.value_and_grad(lambda p: made.apply(p, x).sum()))(params)
    np.testing.assert_allclose(out, 1 + 2 + 5, atol=1e-3)
    assert not gradient["mean"].any() and not gradient["variance"].any() and gradient["scale"].any()


@pytest.mark.parametrize(
    ("config", "change", "says"),
    [
        (CONFORMER, {"kernel": 4}, "encoder.kernel = 4: must be odd"),
        (CONFORMER, {"heads": 5}, r"encoder.width = 12: must be a multiple of encoder.heads = 5"),
        (CONFORMER, {"heads": 4, "positions": "rotary"}, r"a multiple of 2 \* encoder.heads = 8"),
        (CONFORMER, {"width": 9, "heads": 3}, "encoder.width = 9: encoder.positions = relative needs an even one"),
        (CONFORMER, {"channels": 0}, "encoder.channels = 0"),
        (BERT, {"before": -1}, "encoder.before = -1"),
        (BERT, {"rotary_base": 0}, "rotary_base = 0"),
    ],
)
def test_sizes_that_cannot_be_are_refused(config, change, says):
    with pytest.raises(UsageError, match=says):
        replace(config, **change)
