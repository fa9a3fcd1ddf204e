"""Sparse posteriors: the k most likely components, and one pooled class for all others.

With the pooled class, the divergence is a lower bound of the dense one, and equals it for k = K. Stored and online
targets use the same functions and so give the same loss.
"""

import jax
import jax.numpy as jnp


def top_k(posteriors: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """Returns the k most likely components, by falling probability: (…, K) -> ids (…, k) int32, probs (…, k)."""
    # Without the barrier, XLA's CPU compiler merges a later slice into this one, no longer recognises a top-k, and
    # sorts all K.
    probs, ids = jax.lax.optimization_barrier(jax.lax.top_k(posteriors, k))
    return ids, probs


def kl_to_sparse(ids: jax.Array, probs: jax.Array, log_q: jax.Array) -> jax.Array:
    """Returns KL(p ‖ q) (…) in nats, float32, over k + 1 classes: those in `ids`, and the pool of all others.

    ids, probs (…, k) from `top_k` or from a store · log_q (…, K) finite log-probabilities.
    If rounding makes Σ probs exceed 1, probs are rescaled. Gradients are finite however small the pool is. For a padded
    frame (probs all 0) the value is 0 if k = K; otherwise all its mass is in the pool.
    """
    components, k = log_q.shape[-1], ids.shape[-1]
    log_q = log_q.astype(jnp.float32)
    probs = probs.astype(jnp.float32)
    total = probs.sum(-1, keepdims=True)
    probs = probs / (jnp.maximum(total, 1) if k < components else jnp.where(total > 0, total, 1))
    divergence = _relative_entropy(probs, jnp.take_along_axis(log_q, ids, axis=-1)).sum(-1)
    if k == components:  # there is no pool, and log 0 would have no gradient
        return divergence
    # log(1 - Σ q) would round to log 0 for a confident model. A comparison can be sharded, a scatter cannot.
    listed = (ids[..., None] == jnp.arange(components)).any(-2)  # (…, K)
    log_pool = jax.nn.logsumexp(jnp.where(listed, -jnp.inf, log_q), axis=-1)
    return divergence + _relative_entropy(jnp.maximum(1 - total[..., 0], 0), log_pool)


def storage_loss(posteriors: jax.Array, ids: jax.Array, stored: jax.Array) -> jax.Array:
    """Returns the KL divergence (…) in nats of dense posteriors (…, K) from the stored ones, their pool spread evenly.

    stored (…, k): probabilities of the components `ids`; components with probability 0 belong to the pool.
    """
    tiny = 1e-7  # least mass of the pool: a component that was rounded to 0 is not impossible
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
