"""The kernel, interpreted on the CPU, against attention written out; and its lowering for a GPU, which needs none."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.fake_devices import pretended_gpu

from jepa_speech.nn import flash_attention
from jepa_speech.nn.row_random import table_draws, table_dropout, valid

ROWS, FRAMES, HEADS, CHANNELS = 2, 140, 2, 16
LENGTHS = jnp.array([FRAMES, 61])
KEYS = jax.random.split(jax.random.PRNGKey(5), ROWS)
PARTS = jax.random.split(jax.random.PRNGKey(0), 6)
QUERY, KEY, VALUE, WEIGHT = (jax.random.normal(part, (ROWS, FRAMES, HEADS, CHANNELS)) for part in PARTS[:4])
BIASES = (
    jax.random.normal(PARTS[4], (HEADS, FRAMES, FRAMES)),
    1 + jax.random.normal(PARTS[5], (ROWS, HEADS, FRAMES)),  # the gate
)
with_and_without_bias = pytest.mark.parametrize("biases", [(), BIASES], ids=["plain", "biased"])


def flash(query: jax.Array, key: jax.Array, value: jax.Array, *biases: jax.Array, rate: float = 0.3) -> jax.Array:
    return flash_attention.attend(query, key, value, LENGTHS, KEYS, rate, *biases, interpret=True)


def plain(query: jax.Array, key: jax.Array, value: jax.Array, *biases: jax.Array, rate: float = 0.3) -> jax.Array:
    logits = jnp.einsum("bthc,bshc->bhts", query, key)
    if biases:
        bias, gate = biases
        logits += jnp.einsum("hts,bht->bhts", bias, gate)
    logits = jnp.where(valid(LENGTHS, FRAMES)[:, None, None], logits, -1e30)
    weights = table_dropout(jax.nn.softmax(logits), rate, *table_draws(KEYS, HEADS, FRAMES, FRAMES))
    return jnp.einsum("bhts,bshc->bthc", weights, value)


def there_and_back(f: Callable) -> Callable:
    """arrays -> what f makes of them, and its cotangents for WEIGHT."""

    def both(*arrays: jax.Array) -> tuple:
        made, back = jax.vjp(f, *arrays)
        return made, *back(WEIGHT)

    return both


@with_and_without_bias
def test_outputs_and_gradients_are_those_of_plain_attention_with_the_same_draws(biases: tuple) -> None:
    arrays = (QUERY, KEY, VALUE, *biases)
    expected, got = (jax.jit(there_and_back(f))(*arrays) for f in (plain, flash))
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5, rtol=5e-6)  # 2^(x log2 e - y log2 e) rounds both products
    other = flash_attention.attend(QUERY, KEY, VALUE, LENGTHS, KEYS[::-1], 0.3, *biases, interpret=True)
    assert np.abs(other - expected[0]).max() > 0.1  # and with other draws it is not


def test_without_dropout_padding_is_not_heard() -> None:
    got = flash_attention.attend(QUERY, KEY, VALUE, LENGTHS, interpret=True)
    np.testing.assert_allclose(got, plain(QUERY, KEY, VALUE, rate=0.0), atol=2e-5)
    short = (x[1:, :61] for x in (QUERY, KEY, VALUE))
    np.testing.assert_allclose(got[1:, :61], flash_attention.attend(*short, LENGTHS[1:], interpret=True), atol=2e-5)


def test_it_is_for_gpus_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    half = QUERY.astype(jnp.bfloat16)
    assert not flash_attention.fits(half)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert flash_attention.fits(half)
    assert not flash_attention.fits(QUERY) and not flash_attention.fits(half[..., :10])
    monkeypatch.setenv("JEPA_SPEECH_KERNELS", "0")
    assert not flash_attention.fits(half)


@with_and_without_bias
def test_devices_share_out_rows_and_send_nothing(biases: tuple) -> None:
    """But the sum of the bias's gradient, which is over rows."""
    mesh = jax.make_mesh((2,), ("data",), (jax.sharding.AxisType.Auto,))
    rows, whole = (jax.sharding.NamedSharding(mesh, spec) for spec in (jax.P("data"), jax.P()))
    names = ("data", "data", "data", "bias", "data")

    def gradients(lengths: jax.Array, keys: jax.Array, *arrays: jax.Array) -> tuple:
        def loss(query: jax.Array, key: jax.Array, value: jax.Array, *biases: jax.Array) -> jax.Array:
            out = flash_attention.attend(query, key, value, lengths, keys, 0.3, *biases, interpret=True)
            return (out * WEIGHT).sum()

        return jax.grad(loss, argnums=tuple(range(len(arrays))))(*arrays)

    arrays = (QUERY, KEY, VALUE, *biases)
    placed = [jax.device_put(x, whole if name == "bias" else rows) for x, name in zip(arrays, names, strict=False)]
    placed = (*(jax.device_put(x, rows) for x in (LENGTHS, KEYS)), *placed)
    compiled = jax.jit(gradients).lower(*placed).compile()
    assert not [word for word in ("all-gather", "all-to-all", "collective-permute") if word in compiled.as_text()]
    got = compiled(*placed)
    for a, b in zip(got, jax.jit(gradients)(LENGTHS, KEYS, *arrays), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    for x, name in zip(got, names, strict=False):
        assert x.sharding.is_equivalent_to(whole if name == "bias" else rows, x.ndim)


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")  # jax 0.11
@pytest.mark.parametrize("biased", [False, True])
def test_the_kernels_lower_for_a_gpu(biased: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_outputs", "_gradients", "_biased_outputs", "_biased_gradients"):
        # how devices share them out asks for the devices
        monkeypatch.setattr(flash_attention, name, getattr(flash_attention, name).fun)

    def loss(lengths: jax.Array, keys: jax.Array, *arrays: jax.Array) -> jax.Array:
        return flash_attention.attend(*arrays[:3], lengths, keys, 0.1, *arrays[3:]).astype(jnp.float32).sum()

    wave = jax.ShapeDtypeStruct((2, 779, 12, 64), jnp.bfloat16)
    arrays = [jax.ShapeDtypeStruct((2,), jnp.int32), jax.ShapeDtypeStruct((2, 2), jnp.uint32), wave, wave, wave]
    if biased:
        arrays += [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((12, 779, 779), (2, 12, 779))]
    gradient = jax.jit(jax.grad(loss, argnums=tuple(range(2, len(arrays)))))
    with pretended_gpu():
        text = gradient.trace(*arrays).lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("_kernel") >= 3  # forward, keys and values, queries
    assert ("12x832x832" in text) == biased
