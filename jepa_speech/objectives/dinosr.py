"""DinoSR (arXiv 2305.10005): predict, at masked frames, the codes that online codebooks give the teacher's layers.

    L = mean over masked frames and over the top K blocks of CE(v^k_t, softmax(A_k z_t))                      (eq. 6)
    v^k_t = argmin_v ‖x^k_t − s^k_v / n^k_v‖,   x^k_t = IN(ff^k_t) of the teacher                             (eq. 3)
    s^k_v ← τ s^k_v + (1 − τ) Σ x^k_t,   n^k_v ← τ n^k_v + (1 − τ) |…|   over masked frames of code v         (eq. 4)

Codes are those of the codebooks before the update. Codewords without a frame stay as they are. Sums are over the global
batch, and codebooks are updated once per optimiser step.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jepa_speech.config import of_kind
from jepa_speech.nn.build_encoder import encoder_input
from jepa_speech.nn.linear import Linear
from jepa_speech.nn.module import Pure
from jepa_speech.nn.row_random import fold
from jepa_speech.objective_parts.collapse import masked_moments
from jepa_speech.objective_parts.contract import Batch, Term, Tree
from jepa_speech.objective_parts.contrastive import code_perplexity
from jepa_speech.objective_parts.masked import ENCODER, masked_parts
from jepa_speech.objective_parts.self_distilled import SelfDistilled, TeacherConfig, check_top_blocks
from jepa_speech.objective_parts.terms import mean_term, negative_log_likelihood
from jepa_speech.settings.run_config import RunConfig


@dataclass(frozen=True)
class DinoSRConfig(TeacherConfig):
    """Config section `objective`, name `dinosr`."""

    name: str = "dinosr"  # chooses this objective
    codes: int = 256  # codes of each codebook [DinoSR: codebook_size; paper: V]
    code_decay: float = 0.9  # decay of the codebooks [DinoSR: codebook_decay; paper: τ]
    # step after which the teacher no longer changes; 0: never [DinoSR: freeze_teacher_step]
    freeze_teacher_at: int = 200_000
    # step after which front-end and projection no longer change; 0: never, as in effect in the authors' code
    freeze_frontend_at: int = 0


@dataclass(frozen=True)
class DinoSR(SelfDistilled):
    config: DinoSRConfig
    heads: Pure

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        keys = jax.random.split(key, 3)
        params = {"encoder": self.encoder.init(keys[0]), "heads": self.heads.init(keys[1])}
        draw = jax.random.normal(keys[2], (self.config.top_blocks, self.config.codes, self.encoder.width))
        codewords = jax.nn.standardize(draw, axis=1, epsilon=1e-5)  # (K, V, D), each dimension over the V
        counts = jnp.ones(codewords.shape[:2])
        return params, {"teacher": self.teacher(params), "code_sums": codewords, "code_counts": counts}

    def loss(
        self, params: Tree, aux_state: Tree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[dict[str, Term], Tree]:
        view = self.view(batch, key)
        z = self.encode(params, view.mixed, view.lengths, view.mask, fold(view.keys, ENCODER)).z
        targets = jnp.stack(self.block_targets(params, aux_state, view))  # (K, B, T, D)
        codes = nearest(aux_state["code_sums"] / aux_state["code_counts"][..., None], targets)  # (K, B, T)
        shape = (*z.shape[:2], self.config.top_blocks, self.config.codes)
        log_p = jax.nn.log_softmax(self.heads.apply(params["heads"], z).astype(jnp.float32).reshape(shape))
        surprise = negative_log_likelihood(log_p, jnp.moveaxis(codes, 0, -1))  # (B, T, K)
        hit = (log_p.argmax(-1) == jnp.moveaxis(codes, 0, -1)).mean(-1)
        terms = {
            "codes": mean_term(surprise.mean(-1), view.masked, 1.0),
            "code_accuracy": mean_term(hit, view.masked),
        }
        chosen = jax.nn.one_hot(codes, self.config.codes) * view.masked[None, ..., None]  # (K, B, T, V)
        return terms, {
            "context": masked_moments(z, view.masked),
            "counts": chosen.sum((1, 2)),
            "sums": jnp.einsum("kbtv,kbtd->kvd", chosen, targets, precision="highest"),
        }

    def update_aux_state(self, aux_state: Tree, params: Tree, stats: Tree, step: jax.Array) -> Tree:
        tau, active = self.config.code_decay, stats["counts"] > 0  # (K, V)
        counts = jnp.where(
            active, tau * aux_state["code_counts"] + (1 - tau) * stats["counts"], aux_state["code_counts"]
        )
        moved = tau * aux_state["code_sums"] + (1 - tau) * stats["sums"]
        sums = jnp.where(active[..., None], moved, aux_state["code_sums"])
        return super().update_aux_state(aux_state, params, stats, step) | {"code_sums": sums, "code_counts": counts}

    def rates(self, step: jax.Array) -> dict[str, Any]:
        if not self.config.freeze_frontend_at:
            return {}
        moves = jnp.where(step < self.config.freeze_frontend_at, 1.0, 0.0)
        return {"encoder/frontend": moves, "encoder/projection": moves}

    def report(self, stats: Tree) -> dict[str, jax.Array]:
        return super().report(stats) | {"code_perplexity": code_perplexity(stats["counts"])}

    def clusters(
        self, params: Tree, aux_state: Tree, wave: jax.Array, lengths: jax.Array, mask: jax.Array | None = None
    ) -> tuple[list[jax.Array], jax.Array]:
        """Each head's code probabilities for every frame: [(B, T, V)] and frame lengths (B,).

        mask (B, T): frames to mask, as in training but without dropout; None masks nothing.
        """
        encoded = self.encode(params, encoder_input(self.encoder, wave, lengths), lengths, mask, None)
        shape = (*encoded.z.shape[:2], self.config.top_blocks, self.config.codes)
        p = jax.nn.softmax(self.heads.apply(params["heads"], encoded.z).astype(jnp.float32).reshape(shape))
        return [p[:, :, k] for k in range(self.config.top_blocks)], encoded.frame_lengths


def nearest(codewords: jax.Array, x: jax.Array) -> jax.Array:
    """Index of the codeword at the smallest distance: codewords (K, V, D), x (K, B, T, D) -> (K, B, T)."""
    cross = jnp.einsum("kbtd,kvd->kbtv", x, codewords, precision="highest")
    return jnp.argmin(jnp.square(codewords).sum(-1)[:, None, None] - 2 * cross, -1)


SECTIONS = {"objective": DinoSRConfig}


def build(config: RunConfig, anchor: None = None) -> DinoSR:
    """From the whole config."""
    objective, parts = of_kind(config.objective, DinoSRConfig), masked_parts(config)
    check_top_blocks(objective.top_blocks, config.encoder.blocks)
    outputs = objective.top_blocks * objective.codes
    heads = Pure(lambda rngs: Linear(parts["encoder"].width, outputs, rngs=rngs))
    return DinoSR(**parts, config=objective, heads=heads)
