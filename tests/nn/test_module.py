"""Modules as pure functions: where their initial weights come from."""

import jax
import numpy as np
from flax import nnx

from jepa_speech.nn.module import Pure, draws


def three(rngs: nnx.Rngs) -> list:
    return [jax.random.key_data(key()) for key in (rngs.params, rngs.dropout, rngs)]


def test_draws_are_the_keys_of_flax_traced_or_not():
    key = jax.random.PRNGKey(3)
    expected = three(nnx.Rngs(key))
    for found in (three(draws(key)), jax.jit(lambda key: three(draws(key)))(key)):
        np.testing.assert_array_equal(found, expected)


def two_layers(rngs: nnx.Rngs) -> nnx.Module:
    return nnx.List([nnx.Linear(3, 4, rngs=rngs), nnx.Conv(2, 3, 5, rngs=rngs)])


def test_initial_weights_are_those_of_flax_and_the_same_at_each_call():
    key = jax.random.PRNGKey(1)
    expected = nnx.to_pure_dict(nnx.state(two_layers(nnx.Rngs(key))))
    pure = Pure(two_layers)
    for _ in range(2):
        jax.tree.map(np.testing.assert_array_equal, pure.init(key), expected)
