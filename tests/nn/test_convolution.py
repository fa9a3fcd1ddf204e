"""Convolutions as products of matrices against XLA's own."""

import jax
import numpy as np
import pytest
from flax import nnx

from jepa_speech.nn.conv_stack import CONVOLUTIONS
from jepa_speech.nn.convolution import grouped, grouped_product, strided, windows
from jepa_speech.nn.linear import by_frames
from jepa_speech.training.compiled import as_it_is_written

KEYS = jax.random.split(jax.random.PRNGKey(0), 4)


def both(ours, theirs, *arrays):
    """Outputs and gradients of both, of a loss that weighs every output differently."""

    @jax.jit
    def run(*arrays):
        out, back = jax.vjp(ours, *arrays)
        expected, expected_back = jax.vjp(theirs, *arrays)
        weight = jax.random.normal(KEYS[3], expected.shape)
        return (out, *back(weight)), (expected, *expected_back(weight))

    return run(*arrays)


@pytest.mark.parametrize(("size", "stride"), sorted(set(CONVOLUTIONS)))
@pytest.mark.parametrize("samples", [40, 43])
def test_a_strided_convolution_is_a_product(size: int, stride: int, samples: int) -> None:
    x = jax.random.normal(KEYS[0], (2, samples, 3))
    kernel = jax.random.normal(KEYS[1], (size, 3, 4))

    def theirs(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(x, kernel, (stride,), "VALID", dimension_numbers=("NWC", "WIO", "NWC"))

    def ours(x: jax.Array, kernel: jax.Array) -> jax.Array:
        seen = windows(x, size, stride)  # (B, T, K, C)
        return by_frames(seen.reshape(*seen.shape[:2], -1), kernel.reshape(-1, 4))

    got, expected = both(ours, theirs, x, kernel)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize(("size", "frames", "outputs"), [(128, 37, 12), (19, 64, 12), (3, 1, 12), (7, 20, 6)])
def test_a_grouped_convolution_is_a_product(size: int, frames: int, outputs: int) -> None:
    x = jax.random.normal(KEYS[0], (2, frames, 12))
    kernel = jax.random.normal(KEYS[1], (size, 4, outputs))
    got, expected = both(lambda x, k: grouped_product(x, k, 3), lambda x, k: grouped(x, k, 3), x, kernel)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("bias", [True, False])
def test_on_a_gpu_it_is_the_product(monkeypatch: pytest.MonkeyPatch, bias: bool) -> None:
    module = nnx.Conv(2, 5, 3, strides=2, padding="VALID", use_bias=bias, dtype="bfloat16", rngs=nnx.Rngs(0))
    if bias:
        module.bias[...] = jax.random.normal(KEYS[2], (5,))
    x = jax.random.normal(KEYS[0], (2, 11, 2))
    expected = strided(module, x)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    got = strided(module, x)
    assert got.dtype == expected.dtype == "bfloat16"
    np.testing.assert_allclose(np.float32(got), np.float32(expected), atol=0.03)


def test_work_is_that_of_the_model_not_of_computing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nnx.Conv(2, 5, 3, strides=2, padding="VALID", use_bias=False, rngs=nnx.Rngs(0))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    x = jax.random.normal(KEYS[0], (2, 11, 2))
    assert "conv_general_dilated" not in str(jax.make_jaxpr(lambda x: strided(module, x))(x))
    step = jax.jit(lambda state, x: strided(module, x) * state)
    assert "conv_general_dilated" in str(as_it_is_written(step, 1.0, x))
