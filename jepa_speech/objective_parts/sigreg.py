"""SIGReg (LeJEPA, arXiv 2511.08544, algorithm 1): the distance of frames from an isotropic Gaussian.

    SIGReg = mean over random unit vectors a of ∫ |φ̂_a(t) − φ(t)|² w(t) dt
    φ̂_a(t) = mean over frames of exp(i t ⟨a, z⟩),   φ(t) = w(t) = exp(−t²/2)

The integral runs from −5 to 5, by the trapezoidal rule. It is the statistic of Epps and Pulley without the paper's
factor N, the number of frames. So its weight means the same at any batch size. This effective weight is LeJEPA's λ
times N, or λ N / D where a paper sums its prediction error over D dimensions (GLaS-JEPA).

All valid frames of the global batch are one sample (the full marginal of GLaS-JEPA, arXiv 2609.37798). A term holds
sums of cos and sin, so the number of devices and micro-batches changes neither the value nor the gradient.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jepa_speech.errors import UsageError
from jepa_speech.objective_parts.contract import Term

# The integrand is even, and 0 at t = 0: these 16 nodes are 33 on [-5, 5]. The rule has period 2π / STEP = 20 in ⟨a, z⟩.
# The paper's 17 nodes have period 10, so they take a frame ten deviations away for one at the mean.
STEP = 5 / 16
NODES = STEP * np.arange(1, 17, dtype=np.float32)
TARGET = np.exp(-(NODES**2) / 2)
WEIGHTS = 2 * STEP * TARGET * np.append(np.ones(15, np.float32), np.float32(0.5))  # half at the ends
# N times the mean of the distance of N independent Gaussian frames: √(2π) (1 − 1/√3). Correlated frames have more.
NULL = 1.059426
# The run's key is folded with it for directions. Row keys fold the run's key with numbers of recordings, all smaller.
DIRECTIONS = 2**32 - 1
AT_ONCE = 32  # directions whose angles are in memory at the same time


def sigreg_term(z: jax.Array, weight: jax.Array, directions: jax.Array, scale: float) -> Term:
    """SIGReg as a term. z (B, T, D), weight (B, T) 0 or 1, directions (M, D) from `unit_vectors`."""
    return Term(characteristic_sums(z, weight, directions), weight.sum(), scale, distance)


def check_weight(weight: float) -> None:
    """Raises UsageError for a negative weight, which would reward a collapse."""
    if weight < 0:
        raise UsageError(f"config key objective.sigreg_weight = {weight:g}: expected 0 or more")


def unit_vectors(key: jax.Array, step: jax.Array, count: int, width: int) -> jax.Array:
    """Random unit vectors (count, width). key: of the run. All devices and micro-batches of a step draw the same."""
    key = jax.random.fold_in(jax.random.fold_in(key, DIRECTIONS), step)
    drawn = jax.random.normal(key, (count, width))
    return drawn / jnp.linalg.norm(drawn, axis=-1, keepdims=True)


def characteristic_sums(z: jax.Array, weight: jax.Array, directions: jax.Array) -> jax.Array:
    """Sums over frames of weight · cos(t ⟨a, z⟩) and weight · sin(t ⟨a, z⟩), in float32, at all nodes t.

    z (B, T, D), weight (B, T), directions a (M, D) -> (M, 2, 16).
    """
    z = z.astype(jnp.float32)

    def along(direction: jax.Array) -> jax.Array:
        angle = STEP * jnp.einsum("btd,d->bt", z, direction, precision="highest")
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        real, imaginary, sums = weight, jnp.zeros_like(weight), []
        for _ in NODES:  # Each node turns by one angle more. Products are cheaper than 16 cosines and sines of a frame.
            real, imaginary = real * cos - imaginary * sin, imaginary * cos + real * sin
            sums.append(jnp.stack([real.sum(), imaginary.sum()]))
        return jnp.stack(sums, -1)

    # Angles of all directions would take gigabytes, so a block of them is computed again in the backward pass.
    return jax.lax.map(jax.checkpoint(along), directions, batch_size=AT_ONCE)


def distance(mean: jax.Array) -> jax.Array:
    """SIGReg of the means of cos and sin, (M, 2, 16): 0 for frames of N(0, I)."""
    cos, sin = mean[:, 0], mean[:, 1]
    return ((jnp.square(cos - TARGET) + jnp.square(sin)) @ WEIGHTS).mean()


def excess(sums: jax.Array, frames: jax.Array) -> jax.Array:
    """SIGReg of sums (M, 2, 16) over so many frames, less its mean for as many independent Gaussian ones."""
    frames = jnp.maximum(frames, 1)
    return distance(sums / frames) - NULL / frames
