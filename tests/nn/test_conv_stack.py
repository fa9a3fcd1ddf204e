"""The front-end as a TPU computes it against the plain form: the same, with less kept for the backward pass."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jepa_speech.nn.conv_features import ConvFeatures
from jepa_speech.nn.conv_stack import CONVOLUTIONS
from jepa_speech.platform import as_written, written_for

ROWS, SAMPLES, CHANNELS = 2, 4000, 8
WAVE = jax.random.normal(jax.random.PRNGKey(0), (ROWS, SAMPLES))
LENGTHS = jnp.array([SAMPLES, 2500])


@pytest.mark.parametrize("norm", ["group", "layer"])
def test_between_two_convolutions_nothing_is_kept(norm: str) -> None:
    model = ConvFeatures(CHANNELS, norm, norm == "layer", 0.5, None, jnp.dtype("float32"), nnx.Rngs(0))
    graph, parameters = nnx.split(model)

    def there_and_back(form: AbstractContextManager[None]) -> tuple[list[jax.Array], Callable]:
        """Features and gradients, and what keeps the arrays for the backward pass."""
        with form:
            features, back = jax.vjp(lambda p: nnx.merge(graph, p)(WAVE, LENGTHS)[0], parameters)
            return [features, *jax.tree.leaves(back(jnp.sin(features)))], back

    (expected, plain), (got, small) = (there_and_back(form) for form in (as_written(), written_for("tpu")))
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * max(1, np.abs(b).max()))
    outputs, length = 0, SAMPLES
    for size, stride in CONVOLUTIONS:
        length = (length - size) // stride + 1
        outputs += length * CHANNELS
    kept, kept_plain = (
        sum(x.size for x in jax.tree.leaves(back) if x.shape[:1] == (ROWS,) and x.ndim == 3) for back in (small, plain)
    )
    assert ROWS * outputs <= kept < 1.1 * ROWS * (outputs + SAMPLES)  # the wave as well
    assert kept_plain > 2 * kept
