"""The released model on the chassis: its sizes, its frame grid, and the faults that it is kept to show."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden import layers
from ml_collections import ConfigDict
from support import properties, toys
from support.toys import build

from jepa_speech.errors import UsageError
from jepa_speech.features.grid import frames
from jepa_speech.nn.build_encoder import build_encoder, predictor_and_head
from jepa_speech.nn.masks import MaskConfig
from jepa_speech.nn.module import PureEncoder
from jepa_speech.nn.released import ReleasedConfig, bucket
from jepa_speech.nn.released_conv import AdaptiveAttention
from jepa_speech.nn.released_head import HeadBlock
from jepa_speech.training.configfile import load_config

AFTER = MaskConfig(site="pre_predictor")
TINY = {
    "name": "released_conformer",
    "channels": (2, 2, 2, 4),
    "width": 8,
    "res_blocks": 1,
    "blocks": 1,
    "heads": 2,
    "dropout": 0.0,
}


def released_config() -> ConfigDict:
    config = toys.toy_config(mask={"site": "pre_predictor"})
    config.encoder = ConfigDict(TINY)
    return config


@pytest.fixture(scope="module")
def toy() -> SimpleNamespace:
    """What the property checks read of a system; its weights are drawn without jit, which compiles faster."""
    anchor = toys.toy_anchor()
    objective = build(released_config(), anchor)
    parts = {"encoder": objective.encoder, "predictor": objective.predictor, "head": objective.head}
    params = {name: part.init(properties.KEY) for name, part in parts.items()}
    return SimpleNamespace(objective=objective, params=params, batch=toys.toy_batch(anchor=anchor))


def size(*modules) -> int:
    """Parameters of modules, none of them allocated."""
    return sum(leaf.size for module in modules for leaf in jax.tree.leaves(jax.eval_shape(module.init, properties.KEY)))


@pytest.mark.parametrize(("relative", "adaptive"), [(True, False), (False, True)])  # as configured, and neither so
def test_parameter_counts(relative: bool, adaptive: bool) -> None:
    """Published: online 46.58M, encoder 32.12M; within 0.2% for every choice of options, and exact to the last
    digit with relative positions, once the predictor's own table (the release shares one) is taken off.
    """
    section = load_config("gmm_jepa_released").encoder
    section = dataclasses.replace(section, relative_positions=relative, adaptive_attention=adaptive)
    encoder = build_encoder(section, AFTER)
    online = size(encoder, *predictor_and_head(section, None, 1024, 1))
    encoder = size(encoder)
    assert encoder == pytest.approx(32.12e6, rel=2e-3)
    assert online == pytest.approx(46.58e6, rel=2e-3)
    if relative:
        table = 320 * 32 + 2 * 512 + 32
        assert round(encoder / 1e6, 2) == 32.12
        assert round((online - table) / 1e6, 2) == 46.58


@pytest.mark.parametrize("samples", [400, 640, 719, 720, 16_000, 16_079, 16_080, 16_320])
def test_frames_are_those_of_the_grid(samples: int) -> None:
    encoder = build_encoder(ReleasedConfig(**TINY), AFTER)

    def encode(wave: jax.Array, lengths: jax.Array) -> tuple:
        return encoder.make(nnx.Rngs(0))(wave, lengths)

    wave, lengths = jax.ShapeDtypeStruct((2, samples), jnp.float32), jax.ShapeDtypeStruct((2,), jnp.int32)
    encoded = jax.eval_shape(encode, wave, lengths)
    assert {x.shape for x in [encoded.z, *encoded.layers]} == {(2, frames(samples), 8)}
    assert len(encoded.layers) == 2


def test_pre_context_is_refused_by_name() -> None:
    config = released_config()
    config.mask.site = "pre_context"
    with pytest.raises(UsageError, match=r"released_conformer cannot take mask\.site = pre_context: .* 10\.4 s"):
        build(config, toys.toy_anchor())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"strides": (8, 8, 4)}, "encoder.strides"),
        ({"channels": (2, 2)}, "encoder.channels"),
        ({"heads": 3}, "encoder.width"),
    ],
)
def test_sizes_that_cannot_be_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ReleasedConfig(**(TINY | wrong))


def test_hidden_audio_reaches_visible_frames(toy: SimpleNamespace) -> None:
    """P1, the positive control of the leak test: without masking, other audio gives other latents."""
    with pytest.raises(AssertionError, match="Arrays are not equal"):
        properties.leak(toy)


def test_padding_changes_valid_frames(toy: SimpleNamespace) -> None:
    """P16: what `padding_exact = False` warns of."""
    encoder: PureEncoder = toy.objective.encoder
    assert not encoder.padding_exact
    wave = jnp.asarray(toys.toy_audio(1, 8_000))
    encode = jax.jit(encoder.apply)
    short = encode(toy.params["encoder"], wave, jnp.array([8_000])).z
    long = encode(toy.params["encoder"], jnp.pad(wave, ((0, 0), (0, 8_000))), jnp.array([8_000])).z
    assert jnp.abs(long[:, : short.shape[1]] - short).max() > 1e-3


def test_loss_on_the_chassis(toy: SimpleNamespace) -> None:
    """Finite, and at the start near ln K less the posterior's entropy."""
    aux_state = {"teacher": toy.params["encoder"]}
    terms, _ = jax.jit(toy.objective.loss)(toy.params, aux_state, toy.batch, properties.KEY, 0)
    mean = {name: float(term.total / jnp.maximum(term.weight, 1)) for name, term in terms.items()}
    assert np.isfinite(list(mean.values())).all()
    assert abs(mean["cluster"] - (np.log(toys.K) - mean["posterior_entropy"])) < 0.5


def test_dropout_follows_the_keys_of_the_rows() -> None:
    block = HeadBlock(8, 0.5, nnx.Rngs(0))
    x = jax.random.normal(properties.KEY, (2, 5, 8))
    keys = jax.random.split(properties.KEY, 2)
    run = jax.jit(block)
    both = run(x, keys)
    np.testing.assert_allclose(run(x[::-1], keys[::-1]), both[::-1], atol=1e-6)
    assert jnp.abs(run(x, keys[::-1]) - both).max() > 1e-3
    assert jnp.abs(block(x, None) - both).max() > 1e-3


def test_buckets_of_relative_positions() -> None:
    """Against a loop; rounding decides only where a logarithm is whole, which no offset but 800 reaches."""
    offsets = np.arange(-1500, 1501)
    expected = [layers.bucket(int(offset)) for offset in offsets]
    np.testing.assert_array_equal(bucket(jnp.asarray(offsets)), expected)


def test_adaptive_attention_of_fewer_frames_than_chunks() -> None:
    """One frame a chunk leaves no variance: its weight is 1, and gradients stay finite."""
    attention = AdaptiveAttention(nnx.Rngs(0))
    value_and_gradient = jax.jit(jax.value_and_grad(lambda x: attention(x).sum()))
    for count in (1, 5):
        _, gradient = value_and_gradient(jnp.full((1, count, 2), 0.5))
        assert np.isfinite(gradient).all()
    np.testing.assert_allclose(value_and_gradient(jnp.full((1, 1, 2), 0.5))[0], 2.0, rtol=1e-6)
