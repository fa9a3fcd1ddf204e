"""Attentive heads: for each slot a query weights the frames, and a linear classifier predicts the slot's value.

    p(v | s, x) = softmax(b_s + Σ_t α_st x_t A_s),   α_s = softmax_t(x_t · q_s),   x_t = Σ_l w_l x_lt

All parameters start at 0, so attention starts as a plain mean. Padding has the score −∞ and thus no weight. (s3prl's
attentive pooling adds a mask of 0 and 1 to the scores, which leaves padding most of its weight.)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jepa_speech.probing import bootstrap
from jepa_speech.probing.classification import WEIGHTED, views
from jepa_speech.probing.inputs import Sequences
from jepa_speech.probing.progress import QUIET, Bar, stepped

FORM = Sequences
NONE = ""  # the value of a slot that an utterance does not fill


@dataclass(frozen=True)
class Recipe:
    """Training of the heads: Adam, all learning rates in parallel on the same minibatches, decaying linearly to 0."""

    learning_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    decay: float = 1e-3  # weight of |A|² in the loss
    steps: int = 400
    batch: int = 32
    watched: int = 50  # steps between two evaluations on valid


RECIPE = Recipe()
Parameters = dict[str, jax.Array]


class Slots(NamedTuple):
    """S slots and their values in the training split. The number of a value is its index in the slot's list."""

    names: list[str]
    values: list[list[str]]  # (S,) lists, each with NONE

    def numbers(self, targets: Sequence[Mapping[str, str]]) -> np.ndarray:
        """Returns the numbers of the values, (U, S)."""
        pairs = list(zip(self.names, self.values, strict=True))
        return np.array([[values.index(target.get(name, NONE)) for name, values in pairs] for target in targets])


def slots_of(targets: Sequence[Mapping[str, str]]) -> Slots:
    names = sorted({name for target in targets for name in target})
    return Slots(names, [sorted({NONE, *(t[name] for t in targets if name in t)}) for name in names])


def evaluate(task: Any, data: Mapping[str, Sequences], recipe: Recipe, seed: int, bar: Bar = QUIET) -> dict[str, Any]:
    """Returns the results of one task (see evaluate.py). Targets are {slot: value}; the value of other slots is ''."""
    slots = slots_of(data["train"].targets)
    truth = {split: slots.numbers(part.targets) for split, part in data.items()}  # (U, S)
    heads: dict[str, Any] = {}
    curves, weights = {}, {}
    for name, view in views(data["train"].features[0].shape[0]).items():
        rate, parameters, curves[name] = fit(data, truth, slots, view, recipe, seed, partial(bar, name))
        weights[name] = jax.nn.softmax(parameters["layers"])
        right = predict(parameters, data["test"], view, recipe.batch) == truth["test"]
        counts = {
            "slot accuracy": np.stack([right.sum(1), np.full(len(right), right.shape[1])], axis=1),
            "all slots right": np.stack([right.all(1), np.ones(len(right))], axis=1).astype(int),
        }
        heads[name] = {
            "valid": curves[name][-1][1],
            "figures": {figure: bootstrap.figure(data["test"].keys, found) for figure, found in counts.items()},
            "learning_rate": rate,
        }
    chosen = max(heads, key=lambda name: heads[name]["valid"])
    commonest = [np.bincount(column).argmax() for column in truth["train"].T]
    return {
        "figures": {"slot accuracy": "higher", "all slots right": "higher"},
        "chosen": chosen,
        "heads": heads,
        "layer_weights": weights[WEIGHTED if WEIGHTED in weights else chosen].tolist(),
        "curve": curves[chosen],
        "chance": float((truth["test"] == commonest).mean()),
        "sizes": {split: len(part.keys) for split, part in data.items()},
    }


def fit(
    data: Mapping[str, Sequences],
    truth: Mapping[str, np.ndarray],
    slots: Slots,
    view: slice,
    recipe: Recipe,
    seed: int,
    bar: Callable[[int, str], Any],
) -> tuple[float, Parameters, list[list[float]]]:
    """Returns the best learning rate on valid (the first of equals), its parameters and its rows [step, valid]."""
    train, generator = data["train"], np.random.default_rng(seed)
    longest = max(x.shape[1] for x in train.features)
    layers, _, width = train.features[0][view].shape
    sizes = len(recipe.learning_rates), len(slots.names), max(map(len, slots.values))
    exists = np.array([[number < len(values) for number in range(sizes[2])] for values in slots.values])
    parameters = {
        "layers": jnp.zeros((sizes[0], layers)),
        "query": jnp.zeros((*sizes[:2], width)),
        "kernel": jnp.zeros((*sizes[:2], width, sizes[2])),
        "bias": jnp.broadcast_to(jnp.where(exists, 0.0, -jnp.inf), sizes),  # values of other slots stay at −∞
    }
    state = jax.vmap(optax.scale_by_adam().init)(parameters)
    batch, order, curve = min(recipe.batch, len(train.keys)), np.empty(0, int), []
    for step in stepped(recipe.steps, bar):
        if len(order) < batch:
            order = np.concatenate([order, generator.permutation(len(train.keys))])
        chosen, order = order[:batch], order[batch:]
        rates = np.array(recipe.learning_rates, np.float32) * (1 - step / recipe.steps)
        inputs = padded([train.features[i][view] for i in chosen], longest)
        parameters, state = _update(parameters, state, *inputs, truth["train"][chosen], rates, recipe.decay)
        if (step + 1) % recipe.watched == 0 or step + 1 == recipe.steps:
            each = [jax.tree.map(lambda p, g=g: p[g], parameters) for g in range(sizes[0])]
            right = [(predict(p, data["valid"], view, recipe.batch) == truth["valid"]).mean() for p in each]
            curve.append([step + 1, *map(float, right)])
    best = int(np.argmax(curve[-1][1:]))
    return recipe.learning_rates[best], each[best], [[row[0], row[1 + best]] for row in curve]


def padded(features: Sequence[np.ndarray], longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Pads features (L, T_i, D) to (B, L, T, D) with T = longest; returns them and their lengths (B,)."""
    layers, _, width = features[0].shape
    x = np.zeros((len(features), layers, longest, width), np.float32)
    for row, part in zip(x, features, strict=True):
        row[:, : part.shape[1]] = part
    return x, np.array([part.shape[1] for part in features])


def predict(parameters: Parameters, data: Sequences, view: slice, batch: int) -> np.ndarray:
    """Returns the most likely value of each slot, (U, S)."""
    longest = max(x.shape[1] for x in data.features)
    found = []
    for start in range(0, len(data.keys), batch):
        part = [x[view] for x in data.features[start : start + batch]]
        inputs = padded(part + part[:1] * (batch - len(part)), longest)
        found.append(np.asarray(_values(parameters, *inputs))[: len(part)])
    return np.concatenate(found)


def logits_of(parameters: Parameters, x: jax.Array, lengths: jax.Array) -> jax.Array:
    """Returns logits (B, S, V) of the slots' values, from x (B, L, T, D) and lengths (B,)."""
    mixed = jnp.einsum("bltd,l->btd", x, jax.nn.softmax(parameters["layers"]))
    scores = jnp.einsum("btd,sd->bst", mixed, parameters["query"])
    inside = jnp.arange(x.shape[2]) < lengths[:, None, None]  # (B, 1, T)
    weights = jax.nn.softmax(jnp.where(inside, scores, -jnp.inf))
    pooled = jnp.einsum("bst,btd->bsd", weights, mixed)
    return jnp.einsum("bsd,sdv->bsv", pooled, parameters["kernel"]) + parameters["bias"]


@jax.jit
def _values(parameters: Parameters, x: jax.Array, lengths: jax.Array) -> jax.Array:
    return logits_of(parameters, x, lengths).argmax(-1)


@partial(jax.jit, donate_argnums=(0, 1))
def _update(
    parameters: Parameters,
    state: Any,
    x: jax.Array,
    lengths: jax.Array,
    labels: jax.Array,
    rates: jax.Array,
    decay: float,
) -> tuple[Parameters, Any]:
    """Takes one step for every learning rate (G,)."""

    def loss(parameters: Parameters) -> jax.Array:
        logits = logits_of(parameters, x, lengths)
        crossed = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return crossed + decay * jnp.square(parameters["kernel"]).sum()

    def update(parameters: Parameters, state: Any, rate: jax.Array) -> tuple[Parameters, Any]:
        direction, state = optax.scale_by_adam().update(jax.grad(loss)(parameters), state)
        return jax.tree.map(lambda p, d: p - rate * d, parameters, direction), state

    return jax.vmap(update)(parameters, state, rates)
