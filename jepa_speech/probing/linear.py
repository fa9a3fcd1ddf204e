"""The linear probe: multinomial logistic regression on a softmax-weighted sum of frozen layers.

    p(c | x) = softmax(b + Σ_l w_l x_l A),   w = softmax(s),  s = 0 at the start

The weighted sum is SUPERB's featurizer (Yang et al. 2021, arXiv 2105.01051). With one layer it is plain logistic
regression. The learning rate of Adam decays linearly to 0. All settings of the grid are trained in parallel on the same
minibatches, and the best one on the VALIDATION split is chosen.
"""

from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jepa_speech.probing.inputs import Rows


@dataclass(frozen=True)
class Recipe:
    """Training of a probe. Every combination of learning rate and decay is tried."""

    learning_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    decays: tuple[float, ...] = (1e-4, 1e-3)  # weight of |A|² in the loss
    steps: int = 600
    batch: int = 1024


Head = tuple[jax.Array, jax.Array, jax.Array]  # of each setting: layer scores s (G, L), kernel (G, C, D), bias (G, C)
RECIPE = Recipe()
WATCHED = 50  # steps between two evaluations on valid, for the learning curve


class Fitted(NamedTuple):
    """A trained probe."""

    layer_weights: np.ndarray  # (L,) sums to 1
    kernel: np.ndarray  # (D, C)
    bias: np.ndarray  # (C,)
    learning_rate: float
    decay: float
    valid_accuracy: float
    curve: np.ndarray  # (P, 2) rows (step, accuracy on valid)


def fit(train: Rows, valid: Rows, recipe: Recipe = RECIPE, seed: int = 0) -> Fitted:
    """Trains the whole grid on `train` and returns the best probe on `valid` (the first of equals)."""
    grid = list(product(recipe.learning_rates, recipe.decays))
    order = _order(len(train.y), recipe.steps, min(recipe.batch, len(train.y)), seed)
    rates, decays = np.array(grid, np.float32).T
    splits = train.x, train.y, valid.x, valid.y
    *trained, curves = jax.device_get(_train(*splits, order, rates, decays, len(train.classes)))
    seen = np.flatnonzero(np.isfinite(curves[:, 0]))
    best: Fitted | None = None
    for number, (parameters, setting) in enumerate(zip(zip(*trained, strict=True), grid, strict=True)):
        curve = np.stack([seen + 1.0, curves[seen, number]], axis=1)
        weights, kernel, bias = parameters
        model = Fitted(weights, kernel, bias, *setting, 0.0, curve)
        model = model._replace(valid_accuracy=float((predict(model, valid.x) == valid.y).mean()))
        if best is None or model.valid_accuracy > best.valid_accuracy:
            best = model
    assert best is not None  # a recipe has at least one setting
    return best


def predict(model: Fitted, x: np.ndarray) -> np.ndarray:
    """Returns the most likely class (N,) of each row of x (N, L, D)."""
    mixed = np.einsum("nld,l->nd", x, model.layer_weights)
    return (mixed @ model.kernel + model.bias).argmax(-1)


@partial(jax.jit, static_argnames="classes")
def _train(
    x: jax.Array,
    y: jax.Array,
    valid_x: jax.Array,
    valid_y: jax.Array,
    order: jax.Array,
    rates: jax.Array,
    decays: jax.Array,
    classes: int,
) -> tuple[jax.Array, ...]:
    """Returns layer weights (G, L), kernels (G, D, C) and biases (G, C) of the G settings after all steps, and the
    accuracy on valid (steps, G): at every WATCHED steps, NaN in between.
    """
    _, layers, width = x.shape
    steps, settings = len(order), len(rates)
    adam = optax.scale_by_adam()

    def logits_of(heads: Head, inputs: jax.Array) -> jax.Array:
        """Returns logits (G, C, b). Rows are the last axis: products and sums over classes are then fast on a CPU."""
        scores, kernels, biases = heads
        if layers == 1:  # one product for the whole grid
            logits = (kernels.reshape(-1, width) @ inputs[:, 0].T).reshape(settings, classes, -1)
        else:
            mixed = jnp.einsum("gl,bld->gbd", jax.nn.softmax(scores), inputs)
            logits = jnp.einsum("gcd,gbd->gcb", kernels, mixed)
        return logits + biases[:, :, None]

    def loss(heads: Head, inputs: jax.Array, labels: jax.Array) -> jax.Array:
        """Returns the sum of the losses of all settings, whose gradients are those of each."""
        log_probs = jax.nn.log_softmax(logits_of(heads, inputs), axis=1)
        right = jnp.arange(classes)[:, None] == labels  # (C, b); selecting by index would scatter in the gradient
        cross_entropy = -jnp.where(right, log_probs, 0).sum(1).mean(1)
        return (cross_entropy + decays * jnp.square(heads[1]).sum((1, 2))).sum()

    def step(carry: tuple[Head, Any], now: tuple[jax.Array, jax.Array]) -> tuple[tuple[Head, Any], jax.Array]:
        (heads, state), (number, chosen) = carry, now
        gradient = jax.grad(loss)(heads, x[chosen], y[chosen])  # the same rows for the whole grid
        direction, state = adam.update(gradient, state)
        rate = rates * (1 - number / steps)
        heads = jax.tree.map(lambda p, d: p - jnp.expand_dims(rate, range(1, p.ndim)) * d, heads, direction)
        looked = (number + 1) % WATCHED == 0
        return (heads, state), jax.lax.cond(looked, on_valid, unknown, heads)

    def on_valid(heads: Head) -> jax.Array:
        return (logits_of(heads, valid_x).argmax(1) == valid_y).mean(1, dtype=jnp.float32)

    def unknown(heads: Head) -> jax.Array:
        return jnp.full(settings, jnp.nan)

    heads = jnp.zeros((settings, layers)), jnp.zeros((settings, classes, width)), jnp.zeros((settings, classes))
    ((scores, kernels, biases), _), curves = jax.lax.scan(step, (heads, adam.init(heads)), (jnp.arange(steps), order))
    return jax.nn.softmax(scores), kernels.swapaxes(1, 2), biases, curves


def _order(rows: int, steps: int, batch: int, seed: int) -> np.ndarray:
    """Returns row numbers (steps, batch), from one permutation of all rows after the other."""
    generator = np.random.default_rng(seed)
    epochs = -(-steps * batch // rows)
    flat = np.concatenate([generator.permutation(rows) for _ in range(epochs)])
    return flat[: steps * batch].reshape(steps, batch)
