import itertools
import math
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jepa_speech.errors import UsageError
from jepa_speech.nn import flash_attention
from jepa_speech.nn.build_encoder import standardise
from jepa_speech.nn.conv_features import scale_gradient
from jepa_speech.nn.conv_positions import ConvPositions
from jepa_speech.nn.module import Pure
from jepa_speech.nn.relative_bias import BiasGate, RelativeBias, buckets
from jepa_speech.nn.wav2vec2 import Wav2Vec2Config, Wav2Vec2Encoder, skipped

TINY = Wav2Vec2Config(
    norm="layer", channels=8, width=16, blocks=2, heads=2, hidden=32, position_kernel=8, position_groups=4
)
LARGE = {"norm": "layer", "conv_bias": True, "pre_norm": True}


def pure(config: Wav2Vec2Config, fill: str = "learned") -> Pure:
    return Pure(lambda rngs: Wav2Vec2Encoder(config, fill, rngs))


@pytest.fixture(scope="module")
def encoder():
    """(params, jitted apply) of the Large wiring with WavLM's bias."""
    made = pure(replace(TINY, **LARGE, relative_bias=True))
    params = jax.jit(made.init)(jax.random.key(0))
    # Gates and biases start at nothing; here they shall count.
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(1), p.shape), params)
    return params, jax.jit(made.apply)


@pytest.fixture(scope="module")
def params():
    """Of TINY, and of all configs that change nothing but the arithmetic and what is random."""
    return jax.jit(pure(TINY).init)(jax.random.key(0))


@pytest.fixture(scope="module")
def waves():
    """wave (2, S) standardised, lengths (2,): the second row is padded."""
    noise = np.random.default_rng(0).normal(0, 1, (2, 8_000)).astype(np.float32)
    lengths = jnp.array([8_000, 4_500])
    return standardise(jnp.asarray(noise), lengths), lengths


@pytest.mark.parametrize(("samples", "count"), [(400, 1), (16_000, 49), (240_000, 749), (250_000, 781)])
def test_frame_counts_are_the_published_ones(samples, count):
    made = pure(TINY)
    params = jax.eval_shape(made.init, jax.random.key(0))
    out = jax.eval_shape(made.apply, params, jnp.zeros((1, samples)), jnp.array([samples]))
    assert TINY.frames(samples) == count
    assert out.z.shape == (1, count, 16)
    assert [x.shape for x in out.ff] == [(1, count, 16)] * 2
    assert len(out.layers) == 3
    assert out.features.shape == (1, count, 8)
    assert out.energy.shape == (1, count)


@pytest.mark.parametrize(
    ("config", "millions", "slack"),
    [
        (Wav2Vec2Config(), 94.37, 0.0001),  # and HuBERT Base
        (Wav2Vec2Config(**LARGE, width=1024, blocks=24, heads=16, hidden=4096), 315.44, 0.0001),
        (Wav2Vec2Config(**LARGE, width=1280, blocks=48, heads=16, hidden=5120), 964, 0.01),  # HuBERT X-Large
        (Wav2Vec2Config(relative_bias=True), 94.38, 0.0001),  # WavLM Base
        (Wav2Vec2Config(norm="layer", positions="stacked", position_kernel=95), 93.16, 0.0001),  # data2vec Base
    ],
)
def test_parameter_counts_are_the_published_ones(config, millions, slack):
    one, two = (
        sum(p.size for p in jax.tree.leaves(jax.eval_shape(pure(replace(config, blocks=n)).init, jax.random.key(0))))
        for n in (1, 2)
    )
    assert (one + (config.blocks - 1) * (two - one)) / 1e6 == pytest.approx(millions, rel=slack)


def test_positions_stand_under_their_names():
    params = jax.eval_shape(pure(replace(TINY, relative_bias=True)).init, jax.random.key(0))
    assert set(params) == {
        "frontend", "projection", "mask_embedding", "positions", "relative_bias", "blocks", "norm"
    }  # fmt: skip
    assert "mask_embedding" not in jax.eval_shape(pure(TINY, "random").init, jax.random.key(0))


@pytest.mark.parametrize(
    "extra",
    [
        {"norm": "group", "positions": "scaled", "feature_norm": False},
        {"positions": "stacked", "position_kernel": 12, "position_depth": 3},
    ],
)
def test_padding_does_not_leak(extra, waves):
    made = pure(replace(TINY, **extra))
    params, apply = jax.jit(made.init)(jax.random.key(0)), jax.jit(made.apply)
    # Biases and shifts are 0 at first, and would hide a leak.
    params = jax.tree.map(lambda x: x + 0.1 * (x.ndim == 1), params)
    wave, lengths = waves
    padded = apply(params, wave.at[1, 4_500:].set(3.0), lengths)  # loud padding, which no caller sends
    alone = apply(params, wave[1:, :4_500], lengths[1:])
    size = TINY.frames(4_500)
    for ours, exact in zip([*padded.layers, *padded.ff], [*alone.layers, *alone.ff], strict=True):
        np.testing.assert_allclose(ours[1, :size], exact[0], atol=1e-5)
    np.testing.assert_allclose(padded.energy[1, :size], alone.energy[0], atol=1e-5)


@pytest.mark.parametrize("frontend", ["conv", "logmel"])
def test_what_is_hidden_does_not_leak(frontend, encoder, waves):
    """Samples under a span, less those that visible frames share with it, reach no output at all."""
    params, apply = encoder
    if frontend == "logmel":
        made = pure(replace(TINY, frontend="logmel"))
        params, apply = jax.jit(made.init)(jax.random.key(0)), jax.jit(made.apply)
    wave, lengths = waves
    mask = jnp.zeros((2, TINY.frames(8_000)), bool).at[:, 5:10].set(True)
    other = wave.at[:, 320 * 5 + 80 : 320 * 10].set(1.5)  # frame 4 ends at 320 * 5 + 80, frame 10 begins at 320 * 10
    a, b = apply(params, wave, lengths, mask), apply(params, other, lengths, mask)
    np.testing.assert_array_equal(a.z, b.z)
    assert np.abs(a.features - b.features).max() > 0.1  # the quantiser's input is not masked
    assert np.abs(apply(params, other, lengths).z - apply(params, wave, lengths).z).max() > 0.1  # unmasked it would


def test_dropout_and_layerdrop_belong_to_the_row(encoder, waves):
    params, apply = encoder
    wave, lengths = waves
    keys = jax.random.split(jax.random.key(3), 2)
    out = apply(params, wave, lengths, None, keys)
    swapped = apply(params, wave[::-1], lengths[::-1], None, keys[::-1])
    np.testing.assert_allclose(out.z[::-1], swapped.z, atol=1e-6)
    np.testing.assert_array_equal(out.z, apply(params, wave, lengths, None, keys).z)
    np.testing.assert_array_equal(apply(params, wave, lengths).z, apply(params, wave, lengths).z)
    assert np.abs(out.z - apply(params, wave, lengths).z).max() > 0.01


def test_a_skipped_block_passes_the_row_on(params, waves):
    """With only layerdrop, each row passes its own blocks, and skipped blocks leave it unchanged."""
    off = {f"{name}dropout": 0.0 for name in ("", "attention_", "activation_", "input_", "feature_")}
    config = replace(TINY, **off, layerdrop=0.5)
    made = pure(config)
    wave, _ = waves
    wave, lengths = jnp.concatenate([wave, wave]), jnp.full(4, 8_000)
    layers = jax.jit(made.apply)(params, wave, lengths, None, jax.random.split(jax.random.key(5), 4)).layers
    stayed = np.array([[np.array_equal(a[row], b[row]) for a, b in itertools.pairwise(layers)] for row in range(4)])
    assert 0 < stayed.sum() < stayed.size
    assert len({tuple(row) for row in stayed}) > 1  # not one draw for the batch


def test_layerdrop_has_its_rate():
    drawn = skipped(jax.random.split(jax.random.key(0), 2_000), 6, 0.05)
    assert drawn.shape == (2_000, 6)
    assert abs(drawn.mean() - 0.05) < 3 * math.sqrt(0.05 * 0.95 / drawn.size)
    assert skipped(None, 6, 0.05) is None


def test_random_vectors_fill_hidden_frames(params, waves):
    made = pure(replace(TINY, input_dropout=0.0, dropout=0.0), "random")
    params = {name: x for name, x in params.items() if name != "mask_embedding"}
    wave, lengths = waves
    mask = jnp.zeros((2, TINY.frames(8_000)), bool).at[:, 5:10].set(True)
    first = jax.jit(lambda key: made.apply(params, wave, lengths, mask, jax.random.split(key, 2)).layers[0])
    a, b = (first(jax.random.key(n)) for n in (0, 1))
    assert np.abs(a[:, 5:10] - b[:, 5:10]).min() > 0
    np.testing.assert_array_equal(a[:, 15:], b[:, 15:])


def test_gradient_scale_counts_once_for_features_and_energy(waves):
    """Both read the front-end behind the scale: gradients of either are a tenth, forward values are the same."""
    wave, lengths = waves[0][:, :2_000], jnp.array([2_000, 2_000])

    def gradients(scale):
        made = pure(replace(TINY, blocks=1, gradient_scale=scale))
        params = jax.jit(made.init)(jax.random.key(0))

        def parts(kernels):
            x = jax.tree.map(lambda x: x, params)
            x["frontend"]["convolutions"][0]["kernel"], x["projection"]["kernel"] = kernels
            out = made.apply(x, wave, lengths)
            return {"features": jnp.sum(out.features**3), "energy": out.energy.sum(), "z": jnp.sum(out.z**3)}

        kernels = params["frontend"]["convolutions"][0]["kernel"], params["projection"]["kernel"]
        return jax.jit(lambda kernels: (parts(kernels), jax.jacrev(parts)(kernels)))(kernels)

    values, slopes = gradients(1.0)
    scaled_values, scaled = gradients(0.1)
    assert values == scaled_values
    for part in ("features", "energy", "z"):
        first = slopes[part][0]
        np.testing.assert_allclose(scaled[part][0], 0.1 * first, atol=1e-5 * np.abs(first).max())
    np.testing.assert_allclose(scaled["z"][1], slopes["z"][1], rtol=1e-5, atol=1e-6)
    x = jnp.array([1e-8, 1e8, 0.3])
    np.testing.assert_array_equal(scale_gradient(x, 0.1), x)


@pytest.mark.parametrize(("count", "distance"), [(320, 800), (32, 128)])
def test_buckets_are_those_of_the_paper(count, distance):
    """Half a sign; exact up to a quarter of all, then in equal steps of the logarithm; the last for all beyond."""
    half, exact = count // 2, count // 4
    for offset in (*range(-1_000, 1_001, 7), -1, 0, 1, exact, 1 - exact, distance, -distance):
        near = abs(offset)
        if near >= exact:
            near = exact + math.floor(math.log(near / exact) / math.log(distance / exact) * (half - exact) + 1e-9)
        assert buckets(np.array(offset), count, distance) == min(near, half - 1) + (half if offset > 0 else 0)


def test_the_bias_of_two_frames_is_that_of_their_bucket_however_far_apart():
    bias = RelativeBias(heads=2, count=16, max_distance=20, rngs=nnx.Rngs(0))
    time = np.arange(50)
    expected = np.asarray(bias.table[...])[buckets(time - time[:, None], 16, 20)]  # (T, T, H)
    np.testing.assert_array_equal(bias(50), np.moveaxis(expected, -1, 0))


def test_the_gated_bias_is_the_papers():
    """d + u d + (1 - u) c r d for a query (arXiv 2110.13900, section 3.1), u = 1 - a and r = b in the code."""
    heads, width, frames = 2, 8, 5
    rngs = nnx.Rngs(0)
    gate, bias = BiasGate(width, heads, jnp.float32, rngs), RelativeBias(heads, 8, 4, rngs)
    c = np.array([0.7, 1.6], np.float32)
    gate.constant[...] = jnp.asarray(c)
    x = np.random.default_rng(0).normal(0, 3, (1, frames, width)).astype(np.float32)
    got = np.asarray(gate(jnp.asarray(x))[..., None] * bias(frames))  # (1, H, T, T)
    kernel, offset, table = (np.asarray(p[...]) for p in (gate.linear.kernel, gate.linear.bias, bias.table))
    for head, query, key in np.ndindex(heads, frames, frames):
        sums = (x[0, query, 4 * head : 4 * head + 4] @ kernel + offset).reshape(2, 4).sum(1)
        a, r = 1 / (1 + np.exp(-sums))
        d, u = table[buckets(np.array(key - query), 8, 4), head], 1 - a
        assert got[0, head, query, key] == pytest.approx(d + u * d + (1 - u) * c[head] * r * d, abs=1e-5)


def test_wavlm_is_the_same_by_the_kernel_that_a_gpu_has(waves, monkeypatch):
    """Outputs and gradients, those of the bias's table and of the gates among them, with dropout of weights."""
    made = pure(replace(TINY, frontend="logmel", blocks=1, relative_bias=True, attention_dropout=0.2))
    params = jax.jit(made.init)(jax.random.key(0))
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(1), p.shape), params)
    wave, lengths = waves
    keys = jax.random.split(jax.random.key(2), 2)
    weight = jax.random.normal(jax.random.key(3), (2, TINY.frames(wave.shape[1]), TINY.width))

    def loss(params):
        z = made.apply(params, wave, lengths, keys=keys).z
        return (z * weight).sum(), z

    expected = jax.jit(jax.grad(loss, has_aux=True))(params)
    kernel, calls = partial(flash_attention.attend, interpret=True), []
    monkeypatch.setattr(flash_attention, "fits", lambda query: True)
    monkeypatch.setattr(flash_attention, "attend", lambda *x: calls.append(len(x)) or kernel(*x))
    got = jax.jit(jax.grad(lambda params: loss(params), has_aux=True))(params)
    assert calls == [8]  # with bias and gate
    assert np.abs(expected[0]["relative_bias"]["table"]).max() > 0.01
    for (path, a), b in zip(jax.tree.leaves_with_path(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * max(1, np.abs(b).max()), err_msg=jax.tree_util.keystr(path))


def test_weight_norm_leaves_one_length_a_tap():
    """Whatever v's length, tap k's kernel is g[k] long; an even kernel sees one frame more behind than ahead."""
    positions = ConvPositions(8, 4, 2, nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 12, 8)), jnp.float32)
    inside = jnp.ones((1, 12), bool)
    before = positions(x, inside)
    positions.v[...] = positions.v[...] * jnp.array([1.0, 3.0, 0.2, 7.0])[:, None, None]
    np.testing.assert_allclose(positions(x, inside), before, atol=1e-6)
    reach = np.abs(positions(x.at[0, 6].add(1.0), inside) - before)[0].max(1) > 1e-6
    assert np.flatnonzero(reach).tolist() == [5, 6, 7, 8]  # frame t sees t - 2 to t + 1


def test_bfloat16_stays_near(params, waves):
    made, low = pure(TINY), pure(replace(TINY, dtype="bfloat16"))
    wave, lengths = waves
    exact, out = (jax.jit(x.apply)(params, wave, lengths) for x in (made, low))
    assert out.z.dtype == jnp.bfloat16
    assert out.energy.dtype == jnp.float32
    assert np.abs(out.z - exact.z).mean() < 0.05  # 8 bits of mantissa, outputs of variance 1


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"heads": 5}, r"encoder\.width = 16: must be a multiple of encoder\.heads = 5"),
        ({"position_groups": 3}, r"encoder\.position_groups = 3"),
        ({"relative_buckets": 30}, r"encoder\.relative_buckets = 30"),
        ({"relative_distance": 80}, r"encoder\.relative_distance"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(wrong, says):
    with pytest.raises(UsageError, match=says):
        replace(TINY, **wrong)
