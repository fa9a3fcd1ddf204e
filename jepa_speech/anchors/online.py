"""A diagonal mixture that follows features which change while a model trains: updates by batches, in the step.

The mixture is a dict of float32 arrays: weights (K,), means and variances (K, D) of standardised features
z = (x - shift) / scale, and shift, scale (D,). All sums add over devices and micro-batches.

Two rules blend a batch's own M step (ŵ, μ̂, σ̂²) into the mixture, at a rate r = 1 - decay. Weights follow
w ← (1 - r) w + r ŵ by both.

    parameters   μ_k ← (1 - r) μ_k + r μ̂_k,  σ²_k ← (1 - r) σ²_k + r σ̂²_k      (S-JEPA, arXiv 2606.19398, appendix)
    statistics   the same averages of Σ q, Σ q z and Σ q z² per frame, then an M step on them. So μ_k moves by
                 s_k = r ŵ_k / w_k (w_k the new one), and σ²_k ← (1 - s_k) σ²_k + s_k σ̂²_k + s_k (1 - s_k) (μ̂_k - μ_k)²

By the first rule, a component that explains one frame of a batch moves as far as one that explains a thousand. By the
second, each frame counts once, and a rate of 1 is a step of EM.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jepa_speech.anchors import gmm
from jepa_speech.anchors.em import LLOYD_ITERATIONS, VARIANCE_FLOOR

Mixture = dict[str, jax.Array]
Rule = Literal["statistics", "parameters"]

DEAD = 0.01  # a component with less than this share of a uniform weight is dead
EM_ITERATIONS = 20  # of seeding, after the Lloyd iterations (S-JEPA, appendix)
LEAST_FRAMES = 1e-6  # a component that explains less of a batch keeps its mean and variance
_HIGHEST = jax.lax.Precision.HIGHEST


class Sums(NamedTuple):
    """Posterior-weighted sums over frames: counts (K,), first and second moments (K, D)."""

    counts: jax.Array
    first: jax.Array
    second: jax.Array


def blank(components: int, width: int) -> Mixture:
    """Returns K equal components of weight 0: a mixture that is not seeded. Every posterior is uniform."""
    return {
        "weights": jnp.zeros(components),
        "means": jnp.zeros((components, width)),
        "variances": jnp.ones((components, width)),
        "shift": jnp.zeros(width),
        "scale": jnp.ones(width),
    }


def standardised(mixture: Mixture, x: jax.Array) -> jax.Array:
    """Features (…, D) -> (…, D) float32, as the mixture's means refer to them."""
    return (x.astype(jnp.float32) - mixture["shift"]) / mixture["scale"]


def posteriors(mixture: Mixture, z: jax.Array, temperature: float = 1.0) -> jax.Array:
    """p(k | z) of standardised features (…, D) -> (…, K); at temperature 0 one-hot, as in k-means."""
    means, variances = mixture["means"], mixture["variances"]
    constant = jnp.log(jnp.maximum(mixture["weights"], 1e-30))
    constant -= 0.5 * jnp.sum(jnp.log(2 * jnp.pi * variances) + jnp.square(means) / variances, axis=1)
    as_they_are = {"shift": jnp.zeros(()), "scale": jnp.ones(())}
    terms = {"linear": (means / variances).T, "quadratic": (-0.5 / variances).T, "constant": constant}
    return gmm.posteriors(as_they_are | terms, z, temperature)


def sums(q: jax.Array, z: jax.Array, weight: jax.Array) -> Sums:
    """Posteriors q (…, K), standardised features z (…, D), and the weight of each frame (…)."""
    q = q * weight[..., None]
    q, z = q.reshape(-1, q.shape[-1]), z.reshape(-1, z.shape[-1])
    first, second = (jnp.matmul(q.T, powers, precision=_HIGHEST) for powers in (z, jnp.square(z)))
    return Sums(q.sum(0), first, second)


def maximised(mixture: Mixture, s: Sums) -> Mixture:
    """The M step, with floored variances. A component without frames keeps its mean and variance."""
    return _floored(mixture | _own_parameters(mixture, s))


def updated(mixture: Mixture, s: Sums, rate: float, rule: Rule) -> Mixture:
    """The mixture after a batch with these sums, by one of the two rules above. A batch without frames changes
    nothing.
    """
    batch = _own_parameters(mixture, s)
    weights = (1 - rate) * mixture["weights"] + rate * batch["weights"]
    moved = batch["means"] - mixture["means"]
    if rule == "statistics":
        share = (rate * batch["weights"] / jnp.maximum(weights, 1e-30))[:, None]
        apart = share * (1 - share) * jnp.square(moved)
    else:
        share, apart = jnp.full_like(weights[:, None], rate), jnp.zeros_like(moved)
    variances = (1 - share) * mixture["variances"] + share * batch["variances"] + apart
    new = {"weights": weights, "means": mixture["means"] + share * moved, "variances": variances}
    some = s.counts.sum() > LEAST_FRAMES
    return _floored(mixture | {name: jnp.where(some, x, mixture[name]) for name, x in new.items()})


def revived(mixture: Mixture, frames: jax.Array, filled: jax.Array, step: jax.Array) -> Mixture:
    """The mixture with each dead component moved to a frame, with the mean variance of the others and weight 1/K.

    frames (R, D), filled (R,) 1 where there is a frame. Components get different frames, and others at another step.
    """
    components = len(mixture["weights"])
    dead = mixture["weights"] < DEAD / components
    order = jnp.argsort(filled == 0)  # slots with a frame come first
    slots = order[(step * components + jnp.arange(components)) % jnp.maximum(filled.sum(), 1).astype(int)]
    live = (~dead)[:, None]
    spread = jnp.sum(mixture["variances"] * live, axis=0) / jnp.maximum(live.sum(), 1)
    weights = jnp.where(dead, 1 / components, mixture["weights"])
    return mixture | {
        "weights": weights / weights.sum(),
        "means": jnp.where(live, mixture["means"], standardised(mixture, frames[slots])),
        "variances": jnp.where(live, mixture["variances"], spread),
    }


def seeded(mixture: Mixture, frames: jax.Array, filled: jax.Array, fresh: jax.Array) -> Mixture:
    """Where `fresh` (), a new mixture of as many components, by Lloyd and EM iterations on frames (R, D); else the old.

    filled (R,): 1 where there is a frame. The first means are the frames of the first slots, so their order must be
    random. Shift and scale become those of the frames. All components get one variance: the frames are too few for one
    each, with which some components would become narrow in many dimensions, and lose all later frames to a broad one.
    """
    components, total = len(mixture["weights"]), jnp.maximum(filled.sum(), 1)
    shift = jnp.sum(frames * filled[:, None], axis=0) / total
    scale = jnp.sqrt(jnp.sum(jnp.square(frames - shift) * filled[:, None], axis=0) / total)
    first = blank(components, frames.shape[1]) | {"shift": shift, "scale": jnp.where(scale > 1e-6, scale, 1)}
    z = standardised(first, frames)
    first["means"] = z[jnp.argsort(filled == 0)[:components]]
    mixture = {name: jnp.where(fresh, x, mixture[name]) for name, x in first.items()}

    def lloyd(_: jax.Array, m: Mixture) -> Mixture:
        return m | {"means": maximised(m, sums(posteriors(m, z, 0.0), z, filled))["means"]}

    def em(_: jax.Array, m: Mixture) -> Mixture:
        m = maximised(m, sums(posteriors(m, z), z, filled))
        within = m["weights"] @ m["variances"]
        return m | {"variances": jnp.broadcast_to(within, m["variances"].shape)}

    # Loops of traced length: they take no time where nothing is fresh, and counted FLOPs have each body once.
    mixture = jax.lax.fori_loop(0, jnp.where(fresh, LLOYD_ITERATIONS, 0), lloyd, mixture)
    return jax.lax.fori_loop(0, jnp.where(fresh, EM_ITERATIONS, 0), em, mixture)


def _own_parameters(mixture: Mixture, s: Sums) -> Mixture:
    """weights, means and variances of a batch alone. Where it has no frames, means and variances are the mixture's."""
    found = (s.counts > LEAST_FRAMES)[:, None]
    counts = jnp.where(found, s.counts[:, None], 1)
    means = jnp.where(found, s.first / counts, mixture["means"])
    variances = jnp.where(found, s.second / counts - jnp.square(means), mixture["variances"])
    return {"weights": s.counts / jnp.maximum(s.counts.sum(), LEAST_FRAMES), "means": means, "variances": variances}


def _floored(mixture: Mixture) -> Mixture:
    return mixture | {"variances": jnp.maximum(mixture["variances"], VARIANCE_FLOOR)}
