"""What every objective is: pure functions over plain pytrees. The train step knows only this."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax

Tree = Any
Batch = Mapping[str, jax.Array]


class Term(NamedTuple):
    """A sum over the batch, the weight to divide it by, and its scale in the loss (0: only a metric).

    Totals and weights add over micro-batches and devices and are divided once, so that neither changes the loss:
    loss = sum over terms of scale * total / weight.
    """

    total: jax.Array
    weight: jax.Array
    scale: jax.Array | float


class Objective(Protocol):
    """`slow` is all that moves without a gradient: teacher, codebooks, a frozen anchor; {} where there is none."""

    spec: frozenset[str]
    """What the batch must hold beside the audio: `mix`, `anchor`, `anchor_mean`."""

    frame_rate: float
    """Frames per second of `represent`."""

    min_samples: int
    """The shortest wave, at 16 kHz, that `represent` takes."""

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        """Fresh (params, slow)."""

    def loss(
        self, params: Tree, slow: Tree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[dict[str, Term], Tree]:
        """Terms by name, and stats: sums over the batch that feed `update_slow` and `report`."""

    def update_slow(self, slow: Tree, params: Tree, stats: Tree, step: jax.Array) -> Tree:
        """The new `slow`, after the optimiser's update number `step`."""

    def report(self, stats: Tree) -> dict[str, jax.Array]:
        """Figures that are not means, such as effective rank: computed from the summed stats."""

    def represent(
        self, params: Tree, slow: Tree, wave: jax.Array, lengths: jax.Array
    ) -> tuple[list[jax.Array], jax.Array]:
        """Waves (B, S) of any level, lengths (B,) -> layers [(B, T, D)] and frame lengths (B,)."""
