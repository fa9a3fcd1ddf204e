"""k-means: Lloyd's algorithm and its mini-batch form, for frames that may exceed memory.

Frames come in chunks (n, D), the same in every pass. They should have mean 0, because distances are expanded to
‖z‖² - 2 z·μ + ‖μ‖² in float32 on the device.

Lloyd (1982): after each pass, a centroid becomes the mean of the frames nearest to it; sums are in float64.
Mini-batch (Sculley 2010, as in scikit-learn): after each batch, a centroid becomes the mean of all frames that were
ever assigned to it.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jepa_speech.anchors.frames import Begun, Chunks, check_enough, totals, usage_entropy
from jepa_speech.anchors.unfinished import State, Unfinished

SEEDING_FRAMES = (20_000, 200)  # k-means++ gets at least this many frames, and this many per centroid
_HIGHEST = jax.lax.Precision.HIGHEST


@dataclass(frozen=True)
class Options:
    """Options of a fit. Stops after `iterations` passes, or once one lowers the inertia by less than `tolerance` of it.

    batch: frames of a mini-batch.
    """

    components: int = 100
    algorithm: Literal["lloyd", "minibatch"] = "lloyd"
    iterations: int = 20
    tolerance: float = 1e-4
    batch: int = 10_000
    seed: int = 0


class Sums(NamedTuple):
    """Sums over the frames of each centroid: counts (K,), frames (K, D); and the sum of all squared distances."""

    counts: np.ndarray
    first: np.ndarray
    distance: float


@dataclass
class Fit:
    """The state of a fit after some passes: centroids (K, D) float64.

    seen: frames assigned to each centroid so far, in a mini-batch fit
    history: one row per pass. inertia is the mean squared distance of a frame to its centroid before the update,
    heldout_inertia that of held-out frames after it, alive counts components, usage_entropy is 1 if all are used
    equally.
    """

    centroids: np.ndarray
    seen: np.ndarray  # (K,)
    history: list[dict[str, float]] = field(default_factory=list)
    reseeded: int = 0

    @property
    def inertia(self) -> list[float]:
        return [row["inertia"] for row in self.history]

    @property
    def heldout(self) -> list[float]:
        return [row["heldout_inertia"] for row in self.history]


def fit(
    chunks: Chunks,
    sample: np.ndarray,
    heldout: np.ndarray,
    options: Options,
    watch: Callable[[Fit], None] = lambda fit: None,
    unfinished: Unfinished | None = None,
) -> Fit:
    """Fits centroids to all frames of the chunks, seeded on a `sample` (n, D) of them.

    A centroid that loses all its frames is seeded again by k-means++, given the others. `watch` is called after every
    pass. `unfinished` saves the state of the fit; a saved state is resumed. Raises UsageError if there are more
    components than frames in the sample.
    """
    check_enough(sample, options.components)
    random = np.random.default_rng(options.seed)
    begun: Begun = (0, [])

    def keep(begun: Begun) -> None:
        if unfinished and (unfinished.due or not begun[0]):
            unfinished.save(*_state(result, begun, random))

    shape = (options.components, sample.shape[1])
    if unfinished and (state := unfinished.load(partial(_restore, random, shape))):
        result, begun = state
    else:
        result = Fit(kmeans_plus_plus(sample, options.components, random), np.zeros(options.components))
        keep(begun)
    for iteration in range(len(result.history), options.iterations):
        if options.algorithm == "lloyd":
            sums = nearest_sums(result.centroids, chunks, begun, keep)
            result.centroids = means(sums, result.centroids)
        else:
            sums = minibatch_pass(result, chunks, options.batch, random, begun, keep)
        begun = (0, [])
        empty = np.flatnonzero(sums.counts == 0)
        if len(empty) and iteration + 1 < options.iterations:
            kept = np.delete(result.centroids, empty, axis=0)
            result.centroids[empty] = kmeans_plus_plus(sample, options.components, random, kept)[len(kept) :]
            result.seen[empty] = 0
            result.reseeded += len(empty)
        result.history.append(
            {
                "pass": iteration + 1,
                "inertia": sums.distance / sums.counts.sum(),
                "heldout_inertia": inertia(result.centroids, heldout),
                "alive": options.components - len(empty),
                "usage_entropy": usage_entropy(sums.counts),
            }
        )
        watch(result)
        if not len(empty) and iteration and _converged(result.inertia[-2], result.inertia[-1], options.tolerance):
            break
        keep(begun)
    return result


def kmeans_plus_plus(
    z: np.ndarray, components: int, random: np.random.Generator, centres: Iterable[np.ndarray] = ()
) -> np.ndarray:
    """Returns K centres (K, D) float64: the given `centres`, then frames drawn from z (N, D).

    A frame's probability is proportional to its squared distance to the nearest earlier centre (Arthur and
    Vassilvitskii 2007); the first centre is drawn uniformly.
    """
    centres = list(centres)
    squares = np.einsum("nd,nd->n", z, z)
    nearest = np.full(len(z), np.inf)
    for centre in centres:
        _approach(nearest, z, squares, centre)
    while len(centres) < components:
        # If all distances are 0, every frame equals a centre, and any frame will do.
        mass = np.cumsum(nearest)
        if 0 < mass[-1] < np.inf:
            chosen = min(int(np.searchsorted(mass, random.uniform(0, mass[-1]))), len(z) - 1)
        else:
            chosen = int(random.integers(len(z)))
        centres.append(z[chosen])
        _approach(nearest, z, squares, z[chosen])
        nearest[chosen] = 0
    return np.array(centres, np.float64)


def seeding_frames(components: int) -> int:
    """Returns the number of frames that k-means++ needs."""
    least, each = SEEDING_FRAMES
    return max(least, each * components)


def seeding_sample(z: np.ndarray, components: int, random: np.random.Generator) -> np.ndarray:
    """Draws as many of the frames z (N, D) as k-means++ needs, uniformly."""
    count = min(len(z), seeding_frames(components))
    return z[np.sort(random.choice(len(z), count, replace=False))]


def nearest_sums(
    centroids: np.ndarray,
    chunks: Chunks,
    begun: Begun = (0, []),
    after: Callable[[Begun], None] = lambda begun: None,
) -> Sums:
    """Returns the sufficient statistics of a Lloyd step; `begun` and `after` are arguments of `frames.totals`."""
    device = jnp.asarray(centroids, jnp.float32)
    counts, first, distance = totals(chunks, lambda part, valid: _nearest_sums(device, part, valid), begun, after)
    return Sums(counts, first, float(distance))


def means(sums: Sums, centroids: np.ndarray) -> np.ndarray:
    """Returns Lloyd's update (K, D): the mean of each centroid's frames. A centroid without frames does not move."""
    return np.where(sums.counts[:, None] > 0, sums.first / np.maximum(sums.counts, 1)[:, None], centroids)


def minibatch_pass(
    result: Fit,
    chunks: Chunks,
    size: int,
    random: np.random.Generator,
    begun: Begun = (0, []),
    after: Callable[[Begun], None] = lambda begun: None,
) -> Sums:
    """Updates the centroids of `result` after every batch of `size` frames; returns the sums over all batches."""
    done, met = begun
    met = met or [np.zeros(len(result.centroids)), np.zeros_like(result.centroids), np.zeros(())]
    for number in range(done, len(chunks)):
        for part in minibatches(chunks[number], size, random):
            sums = nearest_sums(result.centroids, [part])
            hit = sums.counts > 0
            total = result.seen + sums.counts
            result.centroids[hit] = ((result.seen[:, None] * result.centroids + sums.first)[hit]) / total[hit, None]
            result.seen = total
            met = [a + b for a, b in zip(met, sums, strict=True)]
        after((number + 1, met))
    return Sums(met[0], met[1], float(met[2]))


def minibatches(chunk: np.ndarray, size: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Yields the frames of a chunk in shuffled batches of `size`."""
    order = random.permutation(len(chunk))
    return (chunk[order[start : start + size]] for start in range(0, len(chunk), size))


def inertia(centroids: np.ndarray, x: np.ndarray) -> float:
    """Returns the mean squared distance of frames (N, D) to their nearest centroid."""
    return nearest_sums(centroids, [x]).distance / len(x)


def _state(result: Fit, begun: Begun, random: np.random.Generator) -> State:
    """The state from which a fit resumes."""
    arrays = {"centroids": result.centroids, "seen": result.seen}
    sums = {f"sums_{i}": value for i, value in enumerate(begun[1])}
    rest = {"reseeded": result.reseeded, "chunks": begun[0], "history": result.history}
    return arrays | sums, rest | {"random": random.bit_generator.state}


def _restore(
    random: np.random.Generator, shape: tuple[int, int], arrays: dict[str, np.ndarray], rest: dict[str, Any]
) -> tuple[Fit, Begun]:
    """Restores what `_state` saved. shape: (K, D). Raises KeyError, TypeError or ValueError for anything else."""
    random.bit_generator.state = rest["random"]
    if arrays["centroids"].shape != shape or arrays["seen"].shape != shape[:1]:
        raise ValueError(f"centroids of shape {arrays['centroids'].shape}, not {shape}")
    sums = [arrays[f"sums_{i}"] for i in range(len(arrays) - 2)]
    return Fit(arrays["centroids"], arrays["seen"], rest["history"], rest["reseeded"]), (rest["chunks"], sums)


def _converged(before: float, now: float, tolerance: float) -> bool:
    return before - now <= tolerance * before


def _approach(nearest: np.ndarray, z: np.ndarray, squares: np.ndarray, centre: np.ndarray) -> None:
    distance = squares - 2 * (z @ centre.astype(z.dtype)) + centre @ centre
    np.minimum(nearest, np.maximum(distance, 0), out=nearest)


@jax.jit
def _nearest_sums(centroids: jax.Array, z: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """counts (K,), sums (K, D), the sum of squared distances, over the valid frames of z (N, D)."""
    distance = jnp.sum(centroids**2, axis=1) - 2 * jnp.matmul(z, centroids.T, precision=_HIGHEST)  # (N, K), less ‖z‖²
    nearest = jax.nn.one_hot(jnp.argmin(distance, axis=-1), len(centroids)) * valid[:, None]
    squared = jnp.maximum(jnp.sum(z**2, axis=-1) + jnp.min(distance, axis=-1), 0)  # (N,)
    return nearest.sum(0), jnp.matmul(nearest.T, z, precision=_HIGHEST), jnp.sum(squared * valid)
