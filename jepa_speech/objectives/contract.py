"""What every objective is: pure functions over plain pytrees. The train step knows only this."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax

Tree = Any
Batch = Mapping[str, jax.Array]


def identity(mean: jax.Array) -> jax.Array:
    return mean


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Term:
    """A sum over the batch, the weight to divide it by, and its scale in the loss (0: only a metric).

    Totals and weights add over micro-batches and devices and are divided once, so that neither changes the loss:
    loss = sum over terms of scale * of(total / weight). `of` makes a number of a mean that is an array, such as the
    entropy of the mean codebook usage.
    """

    total: jax.Array
    weight: jax.Array
    scale: jax.Array | float
    of: Callable[[jax.Array], jax.Array] = field(default=identity, metadata={"static": True})


class Objective(Protocol):
    """`slow` is all that moves without a gradient: teacher, codebooks, a frozen anchor; {} where there is none."""

    spec: frozenset[str]
    """What a batch must hold beside the audio: `mix`, `context`, `anchor`, `anchor_mean`, `text` (data/pipeline.py)."""

    batch_statistics: bool
    """Whether training normalises over the batch, so that rows and micro-batches depend on each other."""

    frame_rate: float
    """Frames per second of `represent`."""

    min_samples: int
    """The shortest wave, at 16 kHz, that `represent` takes."""

    def check(self, shortest: int, longest: int) -> None:
        """Raises UsageError if clips of that many samples cannot be trained on; a longer clip never makes it raise."""

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        """Fresh (params, slow)."""

    def loss(
        self, params: Tree, slow: Tree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[dict[str, Term], Tree]:
        """Terms by name, and stats: sums over the batch that feed `update_slow` and `report`."""

    def judge(
        self, params: Tree, slow: Tree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[dict[str, Term], Tree]:
        """`loss` as held-out recordings are judged by it: itself, where hiding is the task and not only a help."""

    def update_slow(self, slow: Tree, params: Tree, stats: Tree, step: jax.Array) -> Tree:
        """The new `slow`, after the optimiser's update number `step`."""

    def rates(self, step: jax.Array) -> dict[str, jax.Array | float]:
        """Multipliers of the learning rate, by path prefix in params ("encoder/frontend"); 0 freezes, {} is usual."""

    def report(self, stats: Tree) -> dict[str, jax.Array]:
        """Figures that are not means, such as effective rank: computed from the summed stats."""

    def represent(
        self, params: Tree, slow: Tree, wave: jax.Array, lengths: jax.Array
    ) -> tuple[list[jax.Array], jax.Array]:
        """Waves (B, S) of any level, lengths (B,) -> layers [(B, T, D)] and frame lengths (B,)."""
