"""A CTC recogniser on the weighted sum of frozen layers, as in SUPERB (Yang et al. 2021, arXiv 2105.01051).

    z = BiLSTMs(A Σ_l w_l x_l),   w = softmax(s), s = 0 at the start;   p(· | t) = softmax(B z_t + b)

Without LSTMs it is a linear head. Adam has a constant learning rate; gradients are clipped to norm 1. The loss of an
utterance is divided by the length of its text and averaged over utterances, as in torch's CTCLoss.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jepa_speech.nn.ctc import ctc_loss
from jepa_speech.nn.linear import Linear
from jepa_speech.nn.lstm import Lstm
from jepa_speech.nn.module import Params, Pure
from jepa_speech.nn.row_random import dropout, fold, valid
from jepa_speech.probing.spec_augment import SpecAugment
from jepa_speech.text.beam import Beam


@dataclass(frozen=True)
class Recipe:
    """Training of a recogniser. Every learning rate is tried.

    looks: number of evaluations on valid, at equal distances; the best parameters are kept · batch: utterances
    projection: width of A's output · units: of an LSTM in each direction · lstms: layers (SUPERB: 1024 units, 2 layers)
    beam: beam search on test with a language model, besides greedy decoding.
    """

    learning_rates: tuple[float, ...] = (1e-3, 3e-3)
    steps: int = 600
    looks: int = 10
    batch: int = 16
    projection: int = 128
    units: int = 64
    lstms: int = 2
    dropout: float = 0.2
    clip: float = 1.0
    augment: SpecAugment | None = field(default_factory=SpecAugment)
    beam: Beam | None = None


class Head(nnx.Module):
    def __init__(self, layers: int, width: int, classes: int, recipe: Recipe, rngs: nnx.Rngs):
        self.rate = recipe.dropout
        self.scalars = nnx.Param(jnp.zeros(layers))
        self.projection = Linear(width, recipe.projection, rngs=rngs)
        widths = [recipe.projection, *[2 * recipe.units] * recipe.lstms]
        self.lstms = nnx.List(
            [nnx.List([Lstm(inputs, recipe.units, back, rngs) for back in (False, True)]) for inputs in widths[:-1]]
        )
        self.output = Linear(widths[-1], classes, rngs=rngs)

    def __call__(
        self, x: jax.Array, lengths: jax.Array, augment: SpecAugment | None = None, keys: jax.Array | None = None
    ) -> jax.Array:
        """Returns logits (B, T, V) of standardised x (B, L, T, D) with lengths (B,). keys (B,): in training."""
        z = jnp.einsum("bltd,l->btd", x, jax.nn.softmax(self.scalars[...]))
        inside = valid(lengths, z.shape[1])
        if augment is not None and keys is not None:
            z = augment(fold(keys, 0), z, lengths)
        z = self.projection(z)
        for number, directions in enumerate(self.lstms, 1):
            z = jnp.concatenate([lstm(z, inside) for lstm in directions], axis=-1)
            z = dropout(z, self.rate, fold(keys, number))
        return self.output(z)


class Recogniser:
    """The compiled functions of a head: `init`, `step` and `emissions`, with one program per padded length."""

    def __init__(self, layers: int, width: int, classes: int, recipe: Recipe):
        self.recipe = recipe
        self.head = Pure(lambda rngs: Head(layers, width, classes, recipe, rngs))
        self.optimizer = optax.chain(optax.clip_by_global_norm(recipe.clip), optax.scale_by_adam())

    @partial(jax.jit, static_argnums=0)
    def init(self, key: jax.Array) -> tuple[Params, Any]:
        params = self.head.init(key)
        return params, self.optimizer.init(params)

    @partial(jax.jit, static_argnums=0)
    def step(
        self, params: Params, state: Any, batch: dict[str, jax.Array], rate: jax.Array, key: jax.Array
    ) -> tuple[Params, Any]:
        """Takes one step. batch: x (B, L, T, D), lengths (B,), ids (B, U), id_lengths (B,), weight (B,), 0 = filler."""
        gradients = jax.grad(self.loss)(params, batch, key)
        updates, state = self.optimizer.update(gradients, state)
        return jax.tree.map(lambda p, u: p - rate * u, params, updates), state

    @partial(jax.jit, static_argnums=0)
    def emissions(self, params: Params, batch: dict[str, jax.Array]) -> jax.Array:
        """Returns log p of every class at each frame, (B, T, V)."""
        return jax.nn.log_softmax(self.head.apply(params, batch["x"], batch["lengths"]))

    def loss(self, params: Params, batch: dict[str, jax.Array], key: jax.Array) -> jax.Array:
        keys = jax.random.split(key, len(batch["x"]))
        logits = self.head.apply(params, batch["x"], batch["lengths"], self.recipe.augment, keys)
        nats, feasible = ctc_loss(logits, batch["lengths"], batch["ids"], batch["id_lengths"])
        weight = batch["weight"] * feasible
        return (nats / jnp.maximum(batch["id_lengths"], 1) * weight).sum() / jnp.maximum(batch["weight"].sum(), 1)
