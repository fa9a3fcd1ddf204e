"""Sparse posteriors: the k most likely components, and one pooled class for all that they leave out.

The pooled class makes the divergence a lower bound of the dense one, and equal to it for k = K. Stored and online
targets pass through the same two functions, so that they give the same loss.
"""

import jax
import jax.numpy as jnp


def top_k(posteriors: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """The k most likely components, most likely first: (…, K) -> ids (…, k) int32, probs (…, k)."""
    # Behind the barrier nothing cuts the k again, or some of the frames: else XLA's CPU compiler does not see that only
    # k are wanted, and sorts all K.
    probs, ids = jax.lax.optimization_barrier(jax.lax.top_k(posteriors, k))
    return ids, probs


def kl_to_sparse(ids: jax.Array, probs: jax.Array, log_q: jax.Array) -> jax.Array:
    """KL(p ‖ q) in nats over k + 1 classes, those in `ids` and the pool of all others, in float32.

    ids, probs (…, k) as `top_k` gives them (or as stored) · log_q (…, K) finite log-probabilities -> (…).
    Σ probs may pass 1 by rounding: it is brought back to 1. Gradients are finite however small the pool is. A frame
    without posteriors (padding, all zero) has the finite value 0 if k = K, and belongs to the pool otherwise.
    """
    components, k = log_q.shape[-1], ids.shape[-1]
    log_q = log_q.astype(jnp.float32)
    probs = probs.astype(jnp.float32)
    total = probs.sum(-1, keepdims=True)
    probs = probs / (jnp.maximum(total, 1) if k < components else jnp.where(total > 0, total, 1))
    divergence = _relative_entropy(probs, jnp.take_along_axis(log_q, ids, axis=-1)).sum(-1)
    if k == components:  # nothing is left out, and log 0 would have no gradient
        return divergence
    # Not log(1 - Σ q), which rounds to log 0 as soon as the model is sure. Compared, not scattered: this shards.
    listed = (ids[..., None] == jnp.arange(components)).any(-2)  # (…, K)
    log_pool = jax.nn.logsumexp(jnp.where(listed, -jnp.inf, log_q), axis=-1)
    return divergence + _relative_entropy(jnp.maximum(1 - total[..., 0], 0), log_pool)


def storage_loss(posteriors: jax.Array, ids: jax.Array, stored: jax.Array) -> jax.Array:
    """KL in nats of dense posteriors (…, K) to what was stored of them, its rest spread evenly: (…).

    stored (…, k): of the components `ids`; those of 0 were left out, and belong to the rest.
    """
    tiny = 1e-7  # of what was rounded to 0: it does not count as impossible
    stored = stored.astype(jnp.float32)
    held = stored > 0
    others = jnp.maximum(posteriors.shape[-1] - held.sum(-1), 1)
    kept = jnp.take_along_axis(posteriors, ids, axis=-1)
    log_spread = jnp.log(jnp.maximum(1 - stored.sum(-1), tiny) / others)  # (…)
    log_p = jnp.log(jnp.maximum(posteriors, 1e-30))
    as_rest = (posteriors * (log_p - log_spread[..., None])).sum(-1)
    correction = (held * kept * (log_spread[..., None] - jnp.log(jnp.where(held, stored, 1)))).sum(-1)
    return jnp.maximum(as_rest + correction, 0)  # below 0 by rounding only


def _relative_entropy(p: jax.Array, log_q: jax.Array) -> jax.Array:
    return jax.scipy.special.xlogy(p, p) - p * log_q
