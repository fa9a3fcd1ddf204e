"""Loss terms of frames."""

import jax
import jax.numpy as jnp

from jepa_speech.objective_parts.contract import Term


def mean_term(values: jax.Array, weight: jax.Array, scale: jax.Array | float = 0.0) -> Term:
    """The weighted mean of values, both of one shape, as a term; by default it is only a metric."""
    return Term((values * weight).sum(), weight.sum(), scale)


def negative_log_likelihood(log_p: jax.Array, ids: jax.Array) -> jax.Array:
    """−log p of the classes `ids`, in nats: (…, K), (…) -> (…)."""
    return -jnp.take_along_axis(log_p, ids[..., None], -1)[..., 0]
