"""Fitting a diagonal GMM: k-means++ and a few Lloyd iterations, then expectation-maximisation.

The device computes the sufficient statistics of a batch by two float32 matrix products; the host adds them in float64.
Frames are standardised (mean 0, variance 1 over the corpus).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_speech.anchors import lloyd
from jepa_speech.anchors.anchor import Arrays
from jepa_speech.anchors.frames import Begun, Chunks, check_enough, totals, usage_entropy
from jepa_speech.anchors.gmm import DiagonalGMM, log_joint
from jepa_speech.anchors.unfinished import State, Unfinished

VARIANCE_FLOOR = 0.01  # as a share of each feature's variance over the corpus
DEAD_FRAMES = 5.0  # a component that explains fewer frames (0.1 s of speech) is dead
LLOYD_ITERATIONS = 5
_HIGHEST = jax.lax.Precision.HIGHEST


@dataclass(frozen=True)
class Options:
    """Options of a fit. EM stops after `iterations`, or once one gains less than `tolerance` nats per frame."""

    components: int = 1024
    iterations: int = 20
    tolerance: float = 1e-3
    seed: int = 0


@dataclass
class Parameters:
    """A mixture of standardised features, float64 on the host: weights (K,), means (K, D), variances (K, D)."""

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
        rotation: np.ndarray | None = None,
    ) -> DiagonalGMM:
        return DiagonalGMM(
            means=np.asarray(self.means, np.float32),
            variances=np.asarray(self.variances, np.float32),
            weights=np.asarray(self.weights, np.float32),
            shift=np.asarray(shift, np.float32),
            scale=np.asarray(scale, np.float32),
            features=features,
            normalize=normalize,
            temperature=temperature,
            checkpoint=checkpoint,
            checkpoint_fingerprint=checkpoint_fingerprint,
            rotation=rotation,
        )

    def arrays(self) -> Arrays:
        dim = self.means.shape[1]
        return self.mixture(np.zeros(dim), np.ones(dim), "").arrays()


@dataclass
class Statistics:
    """Posterior-weighted sums over frames: counts (K,), first and second moments (K, D), log-likelihood, frames."""

    counts: np.ndarray
    first: np.ndarray
    second: np.ndarray
    log_likelihood: float
    frames: float


@dataclass
class Fit:
    """The state of a fit after some passes.

    history: one row per pass; the first row describes the initial parameters. log_likelihood and heldout are in nats
    per frame of standardised features, alive counts components, usage_entropy is 1 if all are used equally. `watch` may
    add entries.
    """

    parameters: Parameters
    history: list[dict[str, float]] = field(default_factory=list)
    reseeded: int = 0
    seeded_now: int = 0  # by the last step; the gain of the pass after it is no test of convergence

    @property
    def log_likelihood(self) -> list[float]:
        """Mean log-likelihood after each iteration."""
        return [row["log_likelihood"] for row in self.history[1:]]

    @property
    def heldout(self) -> list[float]:
        return [row["heldout"] for row in self.history[1:]]

    @property
    def alive(self) -> int:
        return int(self.history[-1]["alive"])


def fit(
    chunks: Chunks,
    sample: np.ndarray,
    heldout: np.ndarray,
    options: Options,
    watch: Callable[[Fit], None] = lambda fit: None,
    unfinished: Unfinished | None = None,
) -> Fit:
    """Fits a mixture to the standardised frames (n, D) float32 of all chunks, initialised on a `sample` (n, D) of them.

    `watch` is called after every pass. `unfinished` saves the state of the fit; a saved state is resumed. Raises
    UsageError if there are more components than frames in the sample.
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
        result = Fit(initialise(sample, options.components, random))
        keep(begun)
    for step in range(len(result.history), options.iterations + 1):
        statistics = expectation(result.parameters, chunks, begun, keep)
        begun = (0, [])
        dead = np.flatnonzero(statistics.counts < _dead_below(statistics))
        result.history.append(
            {
                "pass": step,
                "log_likelihood": statistics.log_likelihood / statistics.frames,
                "heldout": expectation(result.parameters, [heldout]).log_likelihood / len(heldout),
                "alive": options.components - len(dead),
                "usage_entropy": usage_entropy(statistics.counts),
            }
        )
        watch(result)
        if step == options.iterations or (step and not result.seeded_now and _gain(result) < options.tolerance):
            break
        result.parameters, result.seeded_now = maximisation(statistics), 0
        if len(dead) and step + 1 < options.iterations:
            split_heaviest(result.parameters, dead, random)
            result.seeded_now = len(dead)
            result.reseeded += len(dead)
        keep(begun)
    return result


def initialise(z: np.ndarray, components: int, random: np.random.Generator) -> Parameters:
    """Returns parameters from k-means++ and Lloyd iterations on a sample of the frames z (N, D)."""
    sample = lloyd.seeding_sample(z, components, random)
    means = lloyd.kmeans_plus_plus(sample, components, random)
    for _ in range(LLOYD_ITERATIONS):
        means = lloyd.means(lloyd.nearest_sums(means, [sample]), means)
    return Parameters(np.full(components, 1 / components), means, np.ones_like(means))


def expectation(
    parameters: Parameters,
    chunks: Chunks,
    begun: Begun = (0, []),
    after: Callable[[Begun], None] = lambda begun: None,
) -> Statistics:
    """Returns the sufficient statistics of a pass; `begun` and `after` are arguments of `frames.totals`."""
    arrays = parameters.arrays()
    counts, first, second, log_likelihood, frames = totals(
        chunks, lambda part, valid: _statistics(arrays, part, valid), begun, after
    )
    return Statistics(counts, first, second, float(log_likelihood), float(frames))


def maximisation(statistics: Statistics) -> Parameters:
    """Returns the parameters that maximise the expected log-likelihood, with floored variances."""
    counts = np.maximum(statistics.counts, 1e-10)[:, None]
    means = statistics.first / counts
    variances = np.maximum(statistics.second / counts - means**2, VARIANCE_FLOOR)
    return Parameters(statistics.counts / statistics.counts.sum(), means, variances)


def split_heaviest(parameters: Parameters, dead: np.ndarray, random: np.random.Generator) -> None:
    """Replaces each dead component by half of the heaviest one; their means differ by ±1 deviation per dimension."""
    for component in dead:
        heaviest = int(np.argmax(parameters.weights))
        direction = random.choice([-0.5, 0.5], parameters.means.shape[1])
        offset = direction * np.sqrt(parameters.variances[heaviest])
        parameters.means[component] = parameters.means[heaviest] + offset
        parameters.means[heaviest] -= offset
        parameters.variances[component] = parameters.variances[heaviest]
        parameters.weights[[component, heaviest]] = parameters.weights[heaviest] / 2
    parameters.weights /= parameters.weights.sum()


def _dead_below(statistics: Statistics) -> float:
    return min(DEAD_FRAMES, 0.1 * statistics.frames / len(statistics.counts))


def _gain(result: Fit) -> float:
    """The gain of the last pass over the one before it, in nats per frame."""
    before, now = (row["log_likelihood"] for row in result.history[-2:])
    return now - before


def _state(result: Fit, begun: Begun, random: np.random.Generator) -> State:
    """The state from which a fit resumes."""
    arrays = {name: getattr(result.parameters, name) for name in ("weights", "means", "variances")}
    sums = {f"sums_{i}": value for i, value in enumerate(begun[1])}
    counts = {"reseeded": result.reseeded, "seeded_now": result.seeded_now, "chunks": begun[0]}
    return arrays | sums, counts | {"history": result.history, "random": random.bit_generator.state}


def _restore(
    random: np.random.Generator, shape: tuple[int, int], arrays: dict[str, np.ndarray], rest: dict[str, Any]
) -> tuple[Fit, Begun]:
    """Restores what `_state` saved. shape: (K, D). Raises KeyError, TypeError or ValueError for anything else."""
    random.bit_generator.state = rest["random"]
    parameters = Parameters(*(arrays[name] for name in ("weights", "means", "variances")))
    if not parameters.means.shape == parameters.variances.shape == shape or parameters.weights.shape != shape[:1]:
        raise ValueError(f"means of shape {parameters.means.shape}, not {shape}")
    sums = [arrays[f"sums_{i}"] for i in range(len(arrays) - 3)]
    return Fit(parameters, rest["history"], rest["reseeded"], rest["seeded_now"]), (rest["chunks"], sums)


@jax.jit
def _statistics(arrays: Arrays, z: jax.Array, valid: jax.Array) -> tuple[jax.Array, ...]:
    joint = log_joint(arrays, z)  # (N, K)
    likelihood = jax.nn.logsumexp(joint, axis=-1, keepdims=True)
    p = jnp.exp(joint - likelihood) * valid[:, None]
    first, second = (jnp.matmul(p.T, values, precision=_HIGHEST) for values in (z, jnp.square(z)))  # (K, D)
    return p.sum(0), first, second, jnp.sum(likelihood[:, 0] * valid), jnp.sum(valid)
