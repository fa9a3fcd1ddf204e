"""Linear maps as a GPU computes them, against those that are written down."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jepa_speech.nn.linear import Linear, NarrowLinear, by_frames, joined

KEYS = jax.random.split(jax.random.PRNGKey(0), 5)
X = jax.random.normal(KEYS[0], (3, 17, 6))


def same(ours, theirs, *arrays) -> None:
    """Outputs and gradients, of a loss that weighs every output differently."""
    (out, back), (expected, expected_back) = (jax.vjp(f, *arrays) for f in (ours, theirs))
    weight = jax.tree.map(lambda x: jax.random.normal(KEYS[4], x.shape), expected)
    pairs = zip(jax.tree.leaves((out, back(weight))), jax.tree.leaves((expected, expected_back(weight))), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_by_frames_is_a_product() -> None:
    same(by_frames, lambda x, kernel: x @ kernel, X, jax.random.normal(KEYS[1], (6, 4)))


def test_its_kernel_s_gradient_is_a_product_for_each_row() -> None:
    def compiled(product: Callable[[jax.Array, jax.Array], jax.Array]) -> str:
        gradient = jax.grad(lambda kernel: jnp.sin(product(X, kernel)).sum())
        return jax.jit(gradient).lower(jnp.ones((6, 4))).compile().as_text()

    assert "f32[3,6,4]" in compiled(by_frames)
    assert "f32[3,6,4]" not in compiled(lambda x, kernel: x @ kernel)  # one that contracts all rows
    assert "optimization_barrier" in str(jax.make_jaxpr(jax.grad(lambda k: by_frames(X, k).sum()))(jnp.ones((6, 4))))


@pytest.mark.parametrize("maps", [(NarrowLinear,), (Linear, Linear, Linear)])
def test_on_a_gpu_maps_are_the_same(monkeypatch: pytest.MonkeyPatch, maps: tuple[type[Linear], ...]) -> None:
    made = nnx.List([kind(6, 4, dtype=jnp.float32, rngs=nnx.Rngs(i)) for i, kind in enumerate(maps)])
    for i, module in enumerate(made):
        module.bias[...] = jax.random.normal(KEYS[i], (4,))
    graph, parameters = nnx.split(made)

    def run(parameters: nnx.State, x: jax.Array) -> list[jax.Array]:
        merged = nnx.merge(graph, parameters)
        return joined(merged, x) if len(merged) > 1 else [merged[0](x)]

    def on_gpu(parameters: nnx.State, x: jax.Array) -> list[jax.Array]:
        with monkeypatch.context() as patch:
            patch.setattr(jax, "default_backend", lambda: "gpu")
            return run(parameters, x)

    assert str(jax.make_jaxpr(on_gpu)(parameters, X)) != str(jax.make_jaxpr(run)(parameters, X))
    same(on_gpu, run, parameters, X)
