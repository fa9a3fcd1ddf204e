"""The interface of an objective: pure functions over plain pytrees. The train step uses nothing else of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import jax

if TYPE_CHECKING:
    from jepa_speech.nn.masks import MaskConfig
    from jepa_speech.nn.module import PureEncoder
    from jepa_speech.text.tokens import Tokens

Tree = Any
Batch = Mapping[str, jax.Array]


def identity(mean: jax.Array) -> jax.Array:
    return mean


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Term:
    """A sum over the batch, the weight to divide it by, and its scale in the loss (0: only a metric).

    Totals and weights add over micro-batches and devices and are divided once, so that neither changes the loss:
    loss = sum over terms of scale * of(total / weight). If the mean is an array, `of` makes a scalar of it, such as the
    entropy of the mean codebook usage.
    """

    total: jax.Array
    weight: jax.Array
    scale: jax.Array | float
    of: Callable[[jax.Array], jax.Array] = field(default=identity, metadata={"static": True})


class Objective(Protocol):
    """`aux_state`, the auxiliary state, has no gradient: teacher, codebooks, frozen anchor. {} if there is none."""

    @property
    def batch_fields(self) -> frozenset[str]:
        """What a batch holds beside the audio: `mix`, `context`, `anchor`, `anchor_mean`, `text`
        (batches/pipeline.py).
        """

    @property
    def batch_statistics(self) -> bool:
        """Whether training normalises over the batch, so that rows and micro-batches depend on each other."""

    @property
    def frame_rate(self) -> float:
        """Frames per second of `represent`."""

    @property
    def min_samples(self) -> int:
        """The shortest wave, at 16 kHz, that `represent` takes."""

    def check(self, shortest: int, longest: int) -> None:
        """Raises UsageError if clips of that many samples cannot be trained on; a longer clip never makes it raise."""

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        """Returns fresh (params, aux_state)."""

    def loss(
        self, params: Tree, aux_state: Tree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[dict[str, Term], Tree]:
        """Returns the loss terms by name, and stats: sums over the batch, for `update_aux_state` and `report`.

        batch: see `batches` in batches/pipeline.py. key: of the run; every row derives its own.
        """

    def eval_loss(
        self, params: Tree, aux_state: Tree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[dict[str, Term], Tree]:
        """The loss on held-out recordings: the same as `loss`, unless masking is only an augmentation (CTC)."""

    def update_aux_state(self, aux_state: Tree, params: Tree, stats: Tree, step: jax.Array) -> Tree:
        """Returns the new `aux_state`, such as the EMA of the teacher. step: the number of updates before this one."""

    def rates(self, step: jax.Array) -> dict[str, jax.Array | float]:
        """Multipliers of the learning rate, by path prefix in params ("encoder/frontend"); 0 freezes, {} is usual."""

    def report(self, stats: Tree) -> dict[str, jax.Array]:
        """Figures that are not means, such as effective rank: computed from the summed stats."""

    def represent(
        self, params: Tree, aux_state: Tree, wave: jax.Array, lengths: jax.Array
    ) -> tuple[list[jax.Array], jax.Array]:
        """Waves (B, S) of any level, lengths (B,) -> layers [(B, T, D)] and frame lengths (B,)."""


@runtime_checkable
class HasClusters(Protocol):
    """What an objective has beside `Objective` if it predicts the cluster of each frame."""

    mask: "MaskConfig"
    encoder: "PureEncoder"

    def draw_mask(self, keys: jax.Array, frame_lengths: jax.Array, size: int) -> jax.Array:
        """Returns the frames to predict, (B, T) True where masked."""

    def clusters(
        self, params: Tree, aux_state: Tree, wave: jax.Array, lengths: jax.Array, mask: jax.Array | None = None
    ) -> tuple[list[jax.Array], jax.Array]:
        """Each head's cluster probabilities for every frame: [(B, T, K)] and frame lengths (B,).

        mask (B, T): frames to mask, as in training but without dropout; None masks nothing.
        """


@runtime_checkable
class HasTexts(Protocol):
    """What an objective has beside `Objective` if it writes texts."""

    vocabulary: "Tokens"

    @property
    def emission_rate(self) -> float:
        """Frames a second of `emissions`."""

    def emissions(
        self, params: Tree, aux_state: Tree, wave: jax.Array, lengths: jax.Array
    ) -> tuple[list[jax.Array], jax.Array]:
        """Waves (B, S) of any level, lengths (B,) -> [log p (B, T, V)] of the classes of `vocabulary`, (B,)."""


@runtime_checkable
class HasTeacher(Protocol):
    """What an objective has beside `Objective` if `aux_state` holds a copy of the student."""

    def teacher(self, params: Tree) -> Tree:
        """A new teacher, a copy of the student with buffers of its own."""
