"""A layer of long short-term memory (Hochreiter and Schmidhuber 1997) in one direction, for padded rows.

i, f, g, o = W x_t + U h_{t−1} + b,   c_t = σ(f) c_{t−1} + σ(i) tanh(g),   h_t = σ(o) tanh(c_t)
"""

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.nn.linear import Linear


class Lstm(nnx.Module):
    """All parameters begin uniform in ±1/√units, as torch's do. reverse: from each row's last valid frame backwards."""

    def __init__(self, inputs: int, units: int, reverse: bool, rngs: nnx.Rngs):
        def uniform(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
            return jax.random.uniform(key, shape, dtype, -(units**-0.5), units**-0.5)

        self.reverse = reverse
        self.input = Linear(inputs, 4 * units, kernel_init=uniform, bias_init=uniform, rngs=rngs)
        self.recurrent = nnx.Param(uniform(rngs.params(), (units, 4 * units)))

    def __call__(self, x: jax.Array, inside: jax.Array) -> jax.Array:
        """x (B, T, D), inside (B, T) True at valid frames -> (B, T, H), 0 beyond them."""
        kernel = self.recurrent[...]

        State = tuple[jax.Array, jax.Array]

        def step(state: State, now: tuple[jax.Array, jax.Array]) -> tuple[State, jax.Array]:
            (h, c), (gates, valid) = state, now
            i, f, g, o = jnp.split(gates + h @ kernel, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            # In padding the state is 0: so the backward direction begins afresh at the last valid frame.
            h, c = jnp.where(valid[:, None], h, 0), jnp.where(valid[:, None], c, 0)
            return (h, c), h

        gates = self.input(x).swapaxes(0, 1)  # (T, B, 4 H), all frames in one product
        zero = jnp.zeros((x.shape[0], kernel.shape[0]))
        outputs = jax.lax.scan(step, (zero, zero), (gates, inside.T), reverse=self.reverse)[1]
        return outputs.swapaxes(0, 1)
