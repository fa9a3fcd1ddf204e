"""The teacher of data2vec and DinoSR: an EMA of the student's blocks on the student's own, unmasked features.

Front-end, projection and positions are the student's (no gradient passes); targets are the feed-forward outputs of the
top K blocks, before the residual, each normalised over the valid frames of its row.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from jepa_speech.errors import UsageError
from jepa_speech.nn.row_random import valid
from jepa_speech.objective_parts.contract import Tree
from jepa_speech.objective_parts.masked import MaskedObjective, View, linear_schedule


@dataclass(frozen=True)
class TeacherConfig:
    """Keys that the config section `objective` has in data2vec and DinoSR."""

    # blocks of the teacher that give targets, from the top [fairseq: average_top_k_layers; paper: K]
    top_blocks: int = 8
    ema_start: float = 0.999  # decay of the teacher at step 0 [fairseq: ema_decay]
    ema_end: float = 0.9999  # decay of the teacher from step `ema_steps`, reached linearly [fairseq: ema_end_decay]
    ema_steps: int = 30_000  # steps from `ema_start` to `ema_end` [fairseq: ema_anneal_end_step]
    freeze_teacher_at: int = 0  # step after which the teacher no longer changes; 0: never [DinoSR: freeze_teacher_step]


@dataclass(frozen=True)
class SelfDistilled(MaskedObjective):
    config: TeacherConfig

    def teacher(self, params: Tree) -> Tree:
        return jax.tree.map(jnp.copy, params["encoder"]["blocks"])  # buffers of its own

    def block_targets(self, params: Tree, aux_state: Tree, view: View) -> list[jax.Array]:
        """[(B, T, D)] float32, of the top K blocks, lowest first."""
        whole = jax.lax.stop_gradient(params["encoder"]) | {"blocks": aux_state["teacher"]}
        ff = self.encoder.apply(whole, view.unmixed, view.lengths).ff[-self.config.top_blocks :]
        inside = valid(view.frame_lengths, view.mask.shape[1])
        return [instance_norm(jax.lax.stop_gradient(x).astype(jnp.float32), inside) for x in ff]

    def decay(self, step: jax.Array) -> jax.Array:
        """The teacher's EMA decay after update number `step`; 1 once frozen."""
        c = self.config
        d = linear_schedule(c.ema_start, c.ema_end, c.ema_steps, step)
        return jnp.where((c.freeze_teacher_at > 0) & (step >= c.freeze_teacher_at), 1.0, d)

    def update_aux_state(self, aux_state: Tree, params: Tree, stats: Tree, step: jax.Array) -> Tree:
        """θ_teacher ← d · θ_teacher + (1 − d) · θ_student, in float32."""
        student = params["encoder"]["blocks"]
        return aux_state | {"teacher": optax.incremental_update(student, aux_state["teacher"], 1 - self.decay(step))}


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
