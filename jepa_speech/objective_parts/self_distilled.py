"""The teacher of data2vec, data2vec 2.0 and DinoSR: an EMA of the student's blocks on its own, unmasked features.

What is not in the teacher is the student's, and no gradient passes: front-end, projection and positions; in data2vec
2.0, front-end and projection. Targets are the feed-forward outputs of the top K blocks, before the residual, each
normalised over the valid frames of its row.
"""

from dataclasses import dataclass
from typing import cast

import jax
import jax.numpy as jnp
import optax

from jepa_speech.errors import UsageError
from jepa_speech.nn.row_random import valid
from jepa_speech.objective_parts.collapse import Moments, masked_moments, variance
from jepa_speech.objective_parts.contract import Term, Tree
from jepa_speech.objective_parts.masked import MaskedObjective, View, linear_schedule
from jepa_speech.objective_parts.terms import mean_term


@dataclass(frozen=True)
class TeacherConfig:
    """Keys that the config section `objective` has in data2vec, data2vec 2.0 and DinoSR."""

    # blocks of the teacher that give targets, from the top [fairseq: average_top_k_layers; paper: K]
    top_blocks: int = 8
    ema_start: float = 0.999  # decay of the teacher at step 0 [fairseq: ema_decay]
    ema_end: float = 0.9999  # decay of the teacher from step `ema_steps`, reached linearly [fairseq: ema_end_decay]
    ema_steps: int = 30_000  # steps from `ema_start` to `ema_end` [fairseq: ema_anneal_end_step]
    freeze_teacher_at: int = 0  # step after which the teacher no longer changes; 0: never [DinoSR: freeze_teacher_step]


@dataclass(frozen=True)
class SelfDistilled(MaskedObjective):
    config: TeacherConfig

    def averaged(self, encoder: Tree) -> Tree:
        """Returns the part of an encoder's parameters that the teacher is an average of."""
        return encoder["blocks"]

    def teacher_encoder(self, params: Tree, aux_state: Tree) -> Tree:
        """Returns the parameters of the teacher's whole encoder."""
        return jax.lax.stop_gradient(params["encoder"]) | {"blocks": aux_state["teacher"]}

    def teacher(self, params: Tree) -> Tree:
        return jax.tree.map(jnp.copy, self.averaged(params["encoder"]))  # buffers of its own

    def block_targets(self, params: Tree, aux_state: Tree, view: View) -> list[jax.Array]:
        """[(B, T, D)] float32, of the top K blocks, lowest first."""
        encoder = self.teacher_encoder(params, aux_state)
        ff = self.encoder.apply(encoder, view.unmixed, view.lengths).ff[-self.config.top_blocks :]
        inside = valid(view.frame_lengths, view.mask.shape[1])
        return [instance_norm(jax.lax.stop_gradient(x).astype(jnp.float32), inside) for x in ff]

    def target(self, params: Tree, aux_state: Tree, view: View) -> jax.Array:
        """The mean of `block_targets`: (B, T, D)."""
        return cast(jax.Array, sum(self.block_targets(params, aux_state, view))) / self.config.top_blocks

    def decay(self, step: jax.Array) -> jax.Array:
        """The teacher's EMA decay after update number `step`; 1 once frozen."""
        c = self.config
        d = linear_schedule(c.ema_start, c.ema_end, c.ema_steps, step)
        return jnp.where((c.freeze_teacher_at > 0) & (step >= c.freeze_teacher_at), 1.0, d)

    def update_aux_state(self, aux_state: Tree, params: Tree, stats: Tree, step: jax.Array) -> Tree:
        """θ_teacher ← d · θ_teacher + (1 − d) · θ_student, in float32."""
        student = self.averaged(params["encoder"])
        return aux_state | {"teacher": optax.incremental_update(student, aux_state["teacher"], 1 - self.decay(step))}


def regression(prediction: jax.Array, target: jax.Array, masked: jax.Array) -> tuple[Term, dict[str, Moments]]:
    """The term ‖prediction − target‖² / √D at masked frames, and the moments of both there.

    prediction and target (N, T, D), masked (N, T).
    """
    prediction = prediction.astype(jnp.float32)
    error = jnp.square(prediction - target).sum(-1) / jnp.sqrt(target.shape[-1])  # (N, T)
    stats = {"prediction": masked_moments(prediction, masked), "target": masked_moments(target, masked)}
    return mean_term(error, masked, 1.0), stats


def variance_figures(stats: Tree) -> dict[str, jax.Array]:
    """Figures of the stats of `regression`."""
    return {f"{name}_variance": variance(stats[name]) for name in ("prediction", "target")}


def instance_norm(x: jax.Array, inside: jax.Array) -> jax.Array:
    """Each channel's mean 0 and variance 1 over the valid frames of its row: x (B, T, D), inside (B, T) -> same."""
    weight = inside[..., None]
    count = jnp.maximum(weight.sum(1, keepdims=True), 1)
    mean = (x * weight).sum(1, keepdims=True) / count
    variance = (jnp.square(x - mean) * weight).sum(1, keepdims=True) / count
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5)


def check_top_blocks(top: int, blocks: int) -> None:
    if not 1 <= top <= blocks:
        raise UsageError(
            f"config key objective.top_blocks = {top}: the encoder has {blocks} blocks, choose 1 to {blocks}"
        )
