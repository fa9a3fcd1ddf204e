"""Fitting a diagonal GMM: k-means++ and a few Lloyd iterations, then expectation-maximisation.

Exact sufficient statistics: batches by two matmuls in float32 on the device, their sums in float64 on the host.
Everything happens on standardised frames (mean 0, variance 1 over the corpus).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from jepa_speech.anchors import lloyd
from jepa_speech.anchors.anchor import Arrays
from jepa_speech.anchors.frames import batches, totals
from jepa_speech.anchors.gmm import DiagonalGMM, log_joint
from jepa_speech.errors import UsageError

VARIANCE_FLOOR = 0.01  # of the corpus's own variance of each feature
DEAD_FRAMES = 5.0  # a component that explains fewer frames (0.1 s of speech) is dead
LLOYD_ITERATIONS = 5
_TEMPERATURES = (1e-3, 1e4)
_HIGHEST = jax.lax.Precision.HIGHEST


@dataclass(frozen=True)
class Options:
    """How to fit. EM stops after `iterations`, or once one gains less than `tolerance` nats per frame."""

    components: int = 1024
    iterations: int = 20
    tolerance: float = 1e-3
    seed: int = 0


@dataclass
class Parameters:
    """Float64 on the host, over standardised features: weights (K,), means (K, D), variances (K, D)."""

    weights: np.ndarray
    means: np.ndarray
    variances: np.ndarray

    def mixture(
        self,
        shift: np.ndarray,
        scale: np.ndarray,
        features: str,
        normalize: str = "level",
        temperature: float = 1.0,
        checkpoint: str = "",
        checkpoint_fingerprint: str = "",
    ) -> DiagonalGMM:
        arrays = {
            "means": self.means,
            "variances": self.variances,
            "weights": self.weights,
            "shift": shift,
            "scale": scale,
        }
        arrays = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
        origin = {"checkpoint": checkpoint, "checkpoint_fingerprint": checkpoint_fingerprint}
        return DiagonalGMM(**arrays, features=features, normalize=normalize, temperature=temperature, **origin)

    def arrays(self) -> Arrays:
        dim = self.means.shape[1]
        return self.mixture(np.zeros(dim), np.ones(dim), "").arrays()


@dataclass
class Statistics:
    """Sums over frames under the posteriors: counts (K,), first and second moments (K, D), log-likelihood."""

    counts: np.ndarray
    first: np.ndarray
    second: np.ndarray
    log_likelihood: float


@dataclass
class Fit:
    """log_likelihood (train) and heldout: nats per frame after each iteration, of standardised features."""

    parameters: Parameters
    log_likelihood: list[float] = field(default_factory=list)
    heldout: list[float] = field(default_factory=list)
    reseeded: int = 0
    dead: int = 0


def fit(
    z: np.ndarray,
    heldout: np.ndarray,
    options: Options,
    watch: Callable[[Fit], None] = lambda fit: None,
) -> Fit:
    """Fits standardised frames z (N, D) float32, calling `watch` after each iteration.

    Raises UsageError for more components than frames.
    """
    if options.components > len(z):
        raise UsageError(
            f"{options.components} components need at least as many frames, and there are {len(z)}: "
            "lower --components or bring more audio"
        )
    random = np.random.default_rng(options.seed)
    dead_below = min(DEAD_FRAMES, 0.1 * len(z) / options.components)
    result = Fit(initialise(z, options.components, random))
    statistics = expectation(result.parameters, z)
    for iteration in range(options.iterations):
        result.parameters = maximisation(statistics)
        dead = np.flatnonzero(statistics.counts < dead_below)
        if len(dead) and iteration + 1 < options.iterations:
            split_heaviest(result.parameters, dead, random)
            result.reseeded += len(dead)
        before = statistics.log_likelihood
        statistics = expectation(result.parameters, z)
        result.log_likelihood.append(statistics.log_likelihood / len(z))
        result.heldout.append(expectation(result.parameters, heldout).log_likelihood / len(heldout))
        watch(result)
        if not len(dead) and (statistics.log_likelihood - before) / len(z) < options.tolerance:
            break
    result.dead = int(np.sum(statistics.counts < dead_below))
    return result


def initialise(z: np.ndarray, components: int, random: np.random.Generator) -> Parameters:
    """k-means++ and Lloyd iterations on a sample of frames."""
    sample = lloyd.seeding_sample(z, components, random)
    means = lloyd.kmeans_plus_plus(sample, components, random)
    for _ in range(LLOYD_ITERATIONS):
        means = lloyd.means(lloyd.nearest_sums(means, [sample]), means)
    return Parameters(np.full(components, 1 / components), means, np.ones_like(means))


def expectation(parameters: Parameters, z: np.ndarray) -> Statistics:
    arrays = parameters.arrays()
    counts, first, second, likelihood = totals([z], lambda part, valid: _statistics(arrays, part, valid))
    return Statistics(counts, first, second, float(likelihood))


def maximisation(statistics: Statistics) -> Parameters:
    """The closed form, with the variance floor."""
    counts = np.maximum(statistics.counts, 1e-10)[:, None]
    means = statistics.first / counts
    variances = np.maximum(statistics.second / counts - means**2, VARIANCE_FLOOR)
    return Parameters(statistics.counts / statistics.counts.sum(), means, variances)


def split_heaviest(parameters: Parameters, dead: np.ndarray, random: np.random.Generator) -> None:
    """Each dead component becomes one half of the heaviest one, half a deviation apart in a random direction."""
    for component in dead:
        heaviest = int(np.argmax(parameters.weights))
        direction = random.choice([-0.5, 0.5], parameters.means.shape[1])
        offset = direction * np.sqrt(parameters.variances[heaviest])
        parameters.means[component] = parameters.means[heaviest] + offset
        parameters.means[heaviest] -= offset
        parameters.variances[component] = parameters.variances[heaviest]
        parameters.weights[[component, heaviest]] = parameters.weights[heaviest] / 2
    parameters.weights /= parameters.weights.sum()


def sharpness(arrays: Arrays, x: np.ndarray, temperature: float) -> dict[str, float]:
    """Mean posterior entropy (nats), the perplexity exp(entropy), and the mean largest posterior."""
    entropy = top = 0.0
    for part, valid in batches(x):
        sums = _sharpness(arrays, part, valid, temperature)
        entropy, top = entropy + float(sums[0]), top + float(sums[1])
    entropy /= len(x)
    return {"entropy": entropy, "perplexity": float(np.exp(entropy)), "top1": top / len(x)}


def temperature_for(arrays: Arrays, x: np.ndarray, perplexity: float) -> float:
    """The temperature at which posteriors of the frames x have this mean perplexity (bisection in its logarithm).

    Raises UsageError unless 1 < perplexity < K.
    """
    components = arrays["constant"].shape[0]
    low, high = np.log(_TEMPERATURES)
    reachable = [sharpness(arrays, x, np.exp(limit))["perplexity"] for limit in (low, high)]
    if not reachable[0] < perplexity < reachable[1]:
        raise UsageError(f"--perplexity {perplexity:g}: choose one above 1 and below the {components} components")
    for _ in range(40):
        middle = (low + high) / 2
        if sharpness(arrays, x, np.exp(middle))["perplexity"] < perplexity:
            low = middle
        else:
            high = middle
        if high - low < 1e-4:
            break
    return float(np.exp((low + high) / 2))


@jax.jit
def _statistics(arrays: Arrays, z: jax.Array, valid: jax.Array) -> tuple[jax.Array, ...]:
    joint = log_joint(arrays, z)  # (N, K)
    likelihood = jax.nn.logsumexp(joint, axis=-1, keepdims=True)
    p = jnp.exp(joint - likelihood) * valid[:, None]
    first, second = (jnp.matmul(p.T, values, precision=_HIGHEST) for values in (z, jnp.square(z)))  # (K, D)
    return p.sum(0), first, second, jnp.sum(likelihood[:, 0] * valid)


@jax.jit
def _sharpness(arrays: Arrays, x: jax.Array, valid: jax.Array, temperature: jax.Array) -> tuple[jax.Array, jax.Array]:
    log_p = jax.nn.log_softmax(log_joint(arrays, x) / temperature, axis=-1)
    p = jnp.exp(log_p)
    return -jnp.sum(jnp.sum(p * log_p, -1) * valid), jnp.sum(p.max(-1) * valid)
