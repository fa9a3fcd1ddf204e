"""A scan over blocks, and blocks computed again in the backward pass, change neither outputs nor gradients."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jepa_speech.nn.encoder import Encoder, EncoderConfig
from jepa_speech.nn.module import Pure
from jepa_speech.nn.stack import through
from jepa_speech.nn.wav2vec2 import Wav2Vec2Config, Wav2Vec2Encoder

SIZES = {"frontend": "logmel", "width": 16, "blocks": 2, "heads": 2, "hidden": 16, "dropout": 0.2}
WAVLM = {"position_kernel": 4, "position_groups": 2, "relative_bias": True, "layerdrop": 0.4}
ENCODERS = {
    "conformer": (Encoder, EncoderConfig(kernel=5, **SIZES), {"scan": True, "remat": True}),
    "wavlm": (Wav2Vec2Encoder, Wav2Vec2Config(**WAVLM, **SIZES), {"scan": True}),
}


def outputs_and_gradient(make, config, params=None):
    encoder = Pure(lambda rngs: make(config, "learned", rngs))
    params = jax.jit(encoder.init)(jax.random.key(0)) if params is None else params
    wave, lengths = jax.random.normal(jax.random.key(1), (2, 4_000)), jnp.array([4_000, 2_000])
    mask, keys = jnp.arange(12) % 3 == jnp.array([[0], [1]]), jax.random.split(jax.random.key(2), 2)

    def loss(params):
        encoded = encoder.apply(params, wave, lengths, mask, keys)
        return jnp.square(jnp.stack(encoded.layers)).sum() + jnp.stack(encoded.ff).sum(), encoded

    (_, encoded), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return params, encoded, gradient


@pytest.mark.parametrize("name", ENCODERS)
def test_the_same_outputs_and_gradients(name):
    make, config, changed = ENCODERS[name]
    params, encoded, gradient = outputs_and_gradient(make, config)
    _, *changed = outputs_and_gradient(make, replace(config, **changed), params)  # the same tree of parameters
    assert len(encoded.layers) == 3 and len(encoded.ff) == 2
    for ours, theirs in zip(jax.tree.leaves(changed), jax.tree.leaves([encoded, gradient]), strict=True):
        scale = max(1.0, float(jnp.abs(theirs).max()))  # rounding goes by the terms of a sum, not by what it comes to
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5 * scale)


def test_each_block_hears_its_own_number():
    """Broken twin: a scan that counts all blocks as the first would give every block the same dropout."""
    blocks = [nnx.Linear(2, 2, rngs=nnx.Rngs(i)) for i in range(3)]
    for scan in (False, True):
        layers, numbers = through(blocks, jnp.ones((1, 1, 2)), lambda b, x, i: (b(x), jnp.asarray(i)), scan, False)
        assert [int(n) for n in numbers] == [0, 1, 2]
        np.testing.assert_allclose(layers[-1], blocks[2](blocks[1](blocks[0](jnp.ones((1, 1, 2))))), rtol=1e-5)


def test_a_scan_holds_the_block_once():
    """The program does not grow with depth, which is the point."""

    def lines(blocks, scan):
        config = EncoderConfig(kernel=5, scan=scan, **SIZES | {"blocks": blocks})
        encoder = Pure(lambda rngs: Encoder(config, "learned", rngs))
        params = jax.eval_shape(encoder.init, jax.random.key(0))
        shapes = jax.ShapeDtypeStruct((1, 4_000), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
        return jax.jit(lambda *args: encoder.apply(*args).z).lower(params, *shapes).as_text().count("dot_general")

    assert lines(8, True) == lines(2, True) < lines(8, False)
