"""Figures that show a collapse before a probe does, computed from sums, which add over devices."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

# Name -> the least healthy value, its format, and what a smaller value means. Healthy runs of configs/smoke.py were
# never below a rank of 14, variances of 0.001, 0.39 and 0.64 (prediction, target, front-end) and a usage of 0.66.
HEALTHY = {
    "effective_rank": (1.5, ".2f", "frames lie along one direction"),
    "target_rank": (1.5, ".2f", "targets lie along one direction"),
    "target_least_std": (0.1, ".3f", "a dimension of the targets is nearly constant"),
    "prediction_variance": (1e-4, ".1e", "all frames are mapped to one vector"),
    "target_variance": (1e-4, ".1e", "all frames are mapped to one vector"),
    "frontend_variance": (1e-3, ".1e", "the front-end gives all frames of a recording one vector"),
    "code_perplexity": (1.5, ".2f", "nearly all frames get one code"),
    "cluster_usage": (0.05, ".3f", "nearly all frames get one cluster"),
    "mixture_usage": (0.05, ".3f", "nearly all frames belong to one component"),
    # Of read speech 0.6 to 0.85 with normalised bands, and below 0.27 with those of 16-bit waves as they are.
    "code_usage": (0.3, ".3f", "nearly all frames get the same few codes"),
}


class Moments(NamedTuple):
    """Number (), sum (D,) and sum of outer products (D, D) of the frames of weight 1."""

    frames: jax.Array
    first: jax.Array
    second: jax.Array


def masked_moments(x: jax.Array, weight: jax.Array) -> Moments:
    """x (B, T, D), weight (B, T) 0 or 1 -> sums in float32; no gradient flows."""
    x = jax.lax.stop_gradient(x)
    chosen = x * weight[..., None].astype(x.dtype)
    # Products of bfloat16 are exact in float32, so x is not converted first.
    second = jnp.einsum("btd,bte->de", chosen, x, precision="highest", preferred_element_type=jnp.float32)
    x = x.astype(jnp.float32)
    return Moments(weight.sum(), jnp.einsum("btd,bt->d", x, weight), second)


class Spread(NamedTuple):
    """Number () of the frames of weight 1, and sum () of their squared distances to their row's mean, over D."""

    frames: jax.Array
    squares: jax.Array


def spread_over_time(x: jax.Array, weight: jax.Array) -> Spread:
    """x (B, T, D), weight (B, T) 0 or 1 -> sums in float32; no gradient flows."""
    x, weight = jax.lax.stop_gradient(x).astype(jnp.float32), weight[..., None].astype(jnp.float32)
    mean = (x * weight).sum(1, keepdims=True) / jnp.maximum(weight.sum(1, keepdims=True), 1)
    return Spread(weight.sum(), (jnp.square(x - mean) * weight).sum() / x.shape[-1])


def variance_over_time(s: Spread) -> jax.Array:
    """Mean over rows and dimensions of the variance over a row's frames; what rows differ by does not count."""
    return s.squares / jnp.maximum(s.frames, 1)


def covariance(m: Moments) -> jax.Array:
    mean = m.first / jnp.maximum(m.frames, 1)
    return m.second / jnp.maximum(m.frames, 1) - jnp.outer(mean, mean)  # (D, D)


def variance(m: Moments) -> jax.Array:
    """Mean over dimensions of the variance over frames."""
    return dimension_variances(m).mean()


def least_std(m: Moments) -> jax.Array:
    """The least of the dimensions' standard deviations over frames."""
    return jnp.sqrt(dimension_variances(m).min())


def dimension_variances(m: Moments) -> jax.Array:
    """Variance over frames of each dimension: (D,)."""
    return jnp.maximum(jnp.diagonal(covariance(m)), 0)


def effective_rank(m: Moments) -> jax.Array:
    """exp(entropy of the normalised singular values) of the centred frames (Roy & Vetterli 2007)."""
    return rank_of_singular_values(jnp.sqrt(jnp.maximum(eigenvalues(covariance(m)), 0)))


def eigenvalues(symmetric: jax.Array) -> jax.Array:
    """Eigenvalues, ascending, of a symmetric matrix: (D, D) -> (D,).

    On TPUs by Jacobi rotations. What jax takes there above 256 dimensions keeps the compiler busy for minutes, at each
    length of batches: 500 s at 768, instead of 2.5 s (libtpu 0.0.42.1).
    """
    return jax.lax.platform_dependent(symmetric, tpu=by_rotations, default=jnp.linalg.eigvalsh)


def by_rotations(symmetric: jax.Array) -> jax.Array:
    return jax.lax.linalg.eigh(symmetric, implementation=jax.lax.linalg.EighImplementation.JACOBI)[1]


def singular_values(x: jax.Array) -> jax.Array:
    """Singular values of a matrix (R, D) -> (min(R, D),), in any order.

    On TPUs as eigenvalues, without squares: the positive ones of [[0, A], [Aᵀ, 0]] are the singular values of A, and
    those of x are those of A in its QR decomposition. jax's own program is compiled in 199 s at 1,536 x 768, this one
    in 8 s (libtpu 0.0.42.1).
    """
    return jax.lax.platform_dependent(x, tpu=singular_by_eigenvalues, default=_svd)


def singular_by_eigenvalues(x: jax.Array) -> jax.Array:
    a = jnp.linalg.qr(x, mode="r")
    rows, columns = a.shape
    both = jnp.block([[jnp.zeros((rows, rows)), a], [a.T, jnp.zeros((columns, columns))]])
    return eigenvalues(both)[-min(a.shape) :]


def _svd(x: jax.Array) -> jax.Array:
    return jnp.linalg.svd(x, compute_uv=False)


def rank_of_singular_values(singular: jax.Array) -> jax.Array:
    """exp(entropy of the normalised singular values) (D,) -> ()."""
    return jnp.exp(entropy(singular / jnp.maximum(singular.sum(), 1e-12)))


def entropy(p: jax.Array) -> jax.Array:
    """Entropy of probabilities in nats: (…, K) -> (…)."""
    return -jnp.sum(p * jnp.log(jnp.maximum(p, 1e-12)), -1)


def count_entropy(counts: jax.Array) -> jax.Array:
    """Entropy in nats of how often each cluster occurs. counts (K,)."""
    return entropy(counts / jnp.maximum(counts.sum(), 1))


def cluster_usage(counts: jax.Array) -> jax.Array:
    """`count_entropy` over ln K: 1 if all clusters are used alike, or if there is only one. counts (K,)."""
    return jnp.ones(()) if counts.size == 1 else count_entropy(counts) / jnp.log(counts.size)  # ln 1 = 0


def code_usage(counts: jax.Array) -> jax.Array:
    """`count_entropy` over ln min(V, number of frames), its largest value: 1 if codes are used alike. counts (V,)."""
    most = jnp.log(jnp.clip(counts.sum(), 2, max(counts.size, 2)))
    return count_entropy(counts) / most


def collapsed(figures: Mapping[str, float]) -> str:
    """Returns a description of the first sign of collapse in a report, or an empty string.

    An alarm, not a measure of quality: a healthy representation fills many dimensions and moves over time.
    """
    for name, (least, form, meaning) in HEALTHY.items():
        figure = figures.get(name)
        if figure is not None and figure < least:
            return f"{name.replace('_', ' ')} {figure:{form}}, healthy from {least:g} on: {meaning}"
    return ""
