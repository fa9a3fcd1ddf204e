"""The random-projection quantiser of BEST-RQ (arXiv 2202.01855, section 3.1), frozen and in float32."""

import jax
import jax.numpy as jnp

from jepa_speech.nn.similarity import unit_length

Arrays = dict[str, jax.Array]


def random_projection(key: jax.Array, inputs: int, books: int, codes: int, width: int) -> Arrays:
    """Returns what each of the books draws: a Xavier projection (G, F, d) and standard normal codes (G, V, d)."""
    first, second = jax.random.split(key)
    xavier = jax.nn.initializers.glorot_uniform(batch_axis=0)
    return {
        "projections": xavier(first, (books, inputs, width)),
        "codes": jax.random.normal(second, (books, codes, width)),
    }


def code_ids(arrays: Arrays, x: jax.Array) -> jax.Array:
    """The nearest code of each frame in each book, all at length 1: x (B, T, F) -> (B, T, G) int32.

    At length 1, the nearest code is the one with the largest inner product, whatever the length of the projected frame.
    A frame of zeros has code 0.
    """
    projected = jnp.einsum("btf,gfd->btgd", x, arrays["projections"], precision="highest")
    return jnp.einsum("btgd,gvd->btgv", projected, unit_length(arrays["codes"]), precision="highest").argmax(-1)
