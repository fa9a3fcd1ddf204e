"""k-means: Lloyd's algorithm and its mini-batch form, over frames that need not fit into memory.

What is fitted is a sequence of large chunks (n, D) of frames, the same ones in every pass. Frames should have mean 0,
since distances are expanded, ‖z‖² - 2 z·μ + ‖μ‖², in float32 on the device.

Lloyd (1982): each centroid becomes the mean of the frames nearest to it; sums over the whole pass, in float64.
Mini-batch (Sculley 2010, as scikit-learn has it): after each batch, a centroid becomes the mean of all frames that
were ever assigned to it.
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

SEEDING_FRAMES = (20_000, 200)  # k-means++ sees at least so many frames, or so many per centroid
_HIGHEST = jax.lax.Precision.HIGHEST


@dataclass(frozen=True)
class Options:
    """How to fit. Stops after `iterations` passes, or once one lowers the inertia by less than `tolerance` of it."""

    components: int = 100
    algorithm: Literal["lloyd", "minibatch"] = "lloyd"
    iterations: int = 20
    tolerance: float = 1e-4
    batch: int = 10_000  # frames of a mini-batch
    seed: int = 0


class Sums(NamedTuple):
    """Over frames, each given to its nearest centroid: counts (K,), sums (K, D), squared distances to it."""

    counts: np.ndarray
    first: np.ndarray
    distance: float


@dataclass
class Fit:
    """What is known after some passes: centroids (K, D) float64, and for a mini-batch fit the frames `seen` by each.

    history: a row per pass: inertia, the mean squared distance of a frame to its centroid, as the pass met it, before
    moving them; heldout_inertia, of held-out frames, after it; components alive, usage_entropy (1: all alike).
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
    """Fits all frames of the chunks, seeded from a sample (n, D) of them, calling `watch` after each pass.

    A centroid that loses all its frames is seeded again, by k-means++ going on from the others. `unfinished`: where the
    state is kept, and where from it goes on. Raises UsageError for more components than frames in the sample.
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
    """Centres (K, D) float64: those given, then frames of z (N, D) until there are K.

    Each is drawn with a chance proportional to the squared distance to those before it (Arthur and Vassilvitskii
    2007), the very first evenly.
    """
    centres = list(centres)
    squares = np.einsum("nd,nd->n", z, z)
    nearest = np.full(len(z), np.inf)
    for centre in centres:
        _approach(nearest, z, squares, centre)
    while len(centres) < components:
        # Without any distance left all frames are copies of centres: any will do.
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
    """How many frames k-means++ should see."""
    least, each = SEEDING_FRAMES
    return max(least, each * components)


def seeding_sample(z: np.ndarray, components: int, random: np.random.Generator) -> np.ndarray:
    """As many of the frames z (N, D) as k-means++ needs, drawn evenly."""
    count = min(len(z), seeding_frames(components))
    return z[np.sort(random.choice(len(z), count, replace=False))]


def nearest_sums(
    centroids: np.ndarray,
    chunks: Chunks,
    begun: Begun = (0, []),
    after: Callable[[Begun], None] = lambda begun: None,
) -> Sums:
    """The sufficient statistics of a Lloyd step: every frame of the chunks counts for its nearest centroid.

    `begun` and `after` as `frames.totals` has them.
    """
    device = jnp.asarray(centroids, jnp.float32)
    counts, first, distance = totals(chunks, lambda part, valid: _nearest_sums(device, part, valid), begun, after)
    return Sums(counts, first, float(distance))


def means(sums: Sums, centroids: np.ndarray) -> np.ndarray:
    """Lloyd's update (K, D): the mean of each centroid's frames; one without frames stays where it was."""
    return np.where(sums.counts[:, None] > 0, sums.first / np.maximum(sums.counts, 1)[:, None], centroids)


def minibatch_pass(
    result: Fit,
    chunks: Chunks,
    size: int,
    random: np.random.Generator,
    begun: Begun = (0, []),
    after: Callable[[Begun], None] = lambda begun: None,
) -> Sums:
    """Moves the centroids, batch by batch of `size` frames; what the batches met on their way, over the pass."""
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
    """Every frame once, `size` at a time, shuffled."""
    order = random.permutation(len(chunk))
    return (chunk[order[start : start + size]] for start in range(0, len(chunk), size))


def inertia(centroids: np.ndarray, x: np.ndarray) -> float:
    """Mean squared distance of frames (N, D) to their nearest centroid."""
    return nearest_sums(centroids, [x]).distance / len(x)


def _state(result: Fit, begun: Begun, random: np.random.Generator) -> State:
    """All that the rest of a fit depends on."""
    arrays = {"centroids": result.centroids, "seen": result.seen}
    sums = {f"sums_{i}": value for i, value in enumerate(begun[1])}
    rest = {"reseeded": result.reseeded, "chunks": begun[0], "history": result.history}
    return arrays | sums, rest | {"random": random.bit_generator.state}


def _restore(
    random: np.random.Generator, shape: tuple[int, int], arrays: dict[str, np.ndarray], rest: dict[str, Any]
) -> tuple[Fit, Begun]:
    """What `_state` saved. shape: (K, D). Raises KeyError, TypeError or ValueError for anything else."""
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
