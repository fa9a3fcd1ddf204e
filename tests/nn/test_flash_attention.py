"""The kernel, interpreted on the CPU, against attention written out; and its lowering for a GPU, which needs none."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_speech.nn import flash_attention
from jepa_speech.nn.rows import dropout, valid

ROWS, FRAMES, HEADS, CHANNELS = 2, 140, 2, 16
LENGTHS = jnp.array([FRAMES, 61])
KEYS = jax.random.split(jax.random.PRNGKey(5), ROWS)
PARTS = jax.random.split(jax.random.PRNGKey(0), 4)
QUERY, KEY, VALUE, WEIGHT = (jax.random.normal(part, (ROWS, FRAMES, HEADS, CHANNELS)) for part in PARTS)


def plain(query: jax.Array, key: jax.Array, value: jax.Array, rate: float) -> jax.Array:
    logits = jnp.einsum("bthc,bshc->bhts", query, key)
    logits = jnp.where(valid(LENGTHS, FRAMES)[:, None, None], logits, -1e30)
    return jnp.einsum("bhts,bshc->bthc", dropout(jax.nn.softmax(logits), rate, KEYS), value)


def test_outputs_and_gradients_are_those_of_plain_attention_with_the_same_draws() -> None:
    rate = 0.3
    expected, back = jax.vjp(lambda *x: plain(*x, rate), QUERY, KEY, VALUE)
    got, flash_back = jax.vjp(
        lambda *x: flash_attention.attend(*x, LENGTHS, KEYS, rate, interpret=True), QUERY, KEY, VALUE
    )
    for a, b in zip((got, *flash_back(WEIGHT)), (expected, *back(WEIGHT)), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
    other = flash_attention.attend(QUERY, KEY, VALUE, LENGTHS, KEYS[::-1], rate, interpret=True)
    assert np.abs(other - expected).max() > 0.1  # and with other draws it is not


def test_without_dropout_padding_is_not_heard() -> None:
    got = flash_attention.attend(QUERY, KEY, VALUE, LENGTHS, interpret=True)
    np.testing.assert_allclose(got, plain(QUERY, KEY, VALUE, 0.0), atol=2e-5)
    short = (x[1:, :61] for x in (QUERY, KEY, VALUE))
    np.testing.assert_allclose(got[1:, :61], flash_attention.attend(*short, LENGTHS[1:], interpret=True), atol=2e-5)


def test_it_is_for_gpus_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    half = QUERY.astype(jnp.bfloat16)
    assert not flash_attention.fits(half)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert flash_attention.fits(half)
    assert not flash_attention.fits(QUERY) and not flash_attention.fits(half[..., :10])
    monkeypatch.setenv("JEPA_SPEECH_FLASH", "0")
    assert not flash_attention.fits(half)


def test_devices_share_out_rows_and_send_nothing() -> None:
    mesh = jax.make_mesh((2,), ("data",), (jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.P("data"))

    def gradients(query: jax.Array, key: jax.Array, value: jax.Array, lengths: jax.Array, keys: jax.Array) -> tuple:
        def loss(*x: jax.Array) -> jax.Array:
            return (flash_attention.attend(*x, lengths, keys, 0.3, interpret=True) * WEIGHT).sum()

        return jax.grad(loss, argnums=(0, 1, 2))(query, key, value)

    arrays = (QUERY, KEY, VALUE, LENGTHS, KEYS)
    compiled = jax.jit(gradients).lower(*(jax.device_put(x, rows) for x in arrays)).compile()
    assert not [word for word in ("all-gather", "all-to-all", "collective-permute") if word in compiled.as_text()]
    for got, expected in zip(compiled(*(jax.device_put(x, rows) for x in arrays)), gradients(*arrays), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")  # jax 0.11
def test_the_kernels_lower_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_outputs", "_gradients"):  # how devices share them out asks for the devices
        monkeypatch.setattr(flash_attention, name, getattr(flash_attention, name).fun)

    def loss(query: jax.Array, key: jax.Array, value: jax.Array, lengths: jax.Array, keys: jax.Array) -> jax.Array:
        return flash_attention.attend(query, key, value, lengths, keys, 0.1).astype(jnp.float32).sum()

    wave = jax.ShapeDtypeStruct((2, 779, 12, 64), jnp.bfloat16)
    arrays = (wave, wave, wave, jax.ShapeDtypeStruct((2,), jnp.int32), jax.ShapeDtypeStruct((2, 2), jnp.uint32))
    with pretended_gpu():
        text = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).trace(*arrays).lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("_kernel") >= 3  # forward, keys and values, queries


def pretended_gpu() -> contextlib.AbstractContextManager:
    """From jax 0.11 on, lowering asks for the device."""
    if not hasattr(jax.sharding, "AbstractDevice"):
        return contextlib.nullcontext()
    device = jax.sharding.AbstractDevice(device_kind="NVIDIA H100 80GB HBM3", num_cores=132, platform="cuda")
    return jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((1,), ("x",), abstract_device=device))
