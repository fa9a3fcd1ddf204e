"""GELU by a short formula against the normal distribution's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from jepa_speech.nn.gelu import gelu, normal

PLACES = np.linspace(-12, 12, 20_001, dtype=np.float32)


def test_the_normal_distribution() -> None:
    below, density = normal(jnp.asarray(PLACES))
    exact = np.float64(PLACES)
    np.testing.assert_allclose(below, norm.cdf(exact), atol=3e-7)
    np.testing.assert_allclose(density, norm.pdf(exact), atol=1e-7)


@pytest.mark.parametrize("device", ["gpu", "tpu"])
def test_on_a_gpu_or_tpu_in_bfloat16_it_is_as_near_as_bfloat16_is(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = jnp.asarray(PLACES, jnp.bfloat16)
    exact = np.float64(x)
    value, slope = exact * norm.cdf(exact), norm.cdf(exact) + exact * norm.pdf(exact)
    monkeypatch.setattr(jax, "default_backend", lambda: device)
    y, back = jax.vjp(gelu, x)
    assert y.dtype == jnp.bfloat16 and "erf" not in str(jax.make_jaxpr(gelu)(x))
    np.testing.assert_allclose(np.float64(y), value, rtol=2**-8, atol=2e-6)
    np.testing.assert_allclose(np.float64(back(jnp.ones_like(x))[0]), slope, rtol=2**-8, atol=2e-6)


def test_in_float32_it_is_that_of_jax_wherever(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = jax.nn.gelu(PLACES, approximate=False)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    np.testing.assert_array_equal(gelu(jnp.asarray(PLACES)), expected)
