"""GMM-anchored JEPA (arXiv 2602.09040).

    L = L_JEPA + λ(t) · L_GMM,  λ from 1 to 0.01, linear in the step
    L_JEPA = mean over masked frames of ‖ẑ_t − LN(z^teacher_t)‖² / D
    L_GMM  = mean over masked frames of KL(q_t ‖ p_t), and visible_weight times that over visible frames

q_t: posterior of a Gaussian mixture fitted once; p_t: the cluster head's prediction from the masked view;
ẑ_t: the predictor's; z^teacher: the EMA encoder's output on the clean, whole view.

λ ≡ 0 is pure JEPA (`configs/pure_jepa.py`); jepa_weight = 0 with λ ≡ 1 is the anchor alone.

`sigreg_weight` adds w · SIGReg(z) (objective_parts/sigreg.py), which is not in the paper. z is the student's output on
the masked view, at all valid frames. No projector lies between, so SIGReg shapes what probes read, and adds no
parameters. The final layer norm gives z the scale of N(0, I).

The paper's released code masks after its encoder, as `mask.site = "pre_predictor"` does (for the released encoder,
`configs/gmm_jepa_released.py`). That code's other properties are not copied: a teacher with dropout and in half
precision, targets without normalisation, labels that are misaligned with the frames.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jepa_speech.anchors.anchor import Anchor
from jepa_speech.anchors.ensemble import Ensemble
from jepa_speech.anchors.sparse import kl_to_sparse
from jepa_speech.config import DEEPEST, check_sizes, of_kind
from jepa_speech.errors import UsageError
from jepa_speech.nn.build_encoder import predictor_and_head
from jepa_speech.nn.module import Pure
from jepa_speech.nn.row_random import fold
from jepa_speech.objective_parts.anchored import AnchoredObjective, anchor_targets, cluster_terms, sparse_entropy
from jepa_speech.objective_parts.collapse import masked_moments, variance
from jepa_speech.objective_parts.contract import Batch, Term, Tree
from jepa_speech.objective_parts.masked import ENCODER, OWN, linear_schedule, masked_parts
from jepa_speech.objective_parts.sigreg import check_weight, excess, sigreg_term, unit_vectors
from jepa_speech.objective_parts.terms import mean_term
from jepa_speech.settings.run_config import RunConfig

PREDICTOR, HEAD = OWN[:2]


@dataclass(frozen=True)
class GmmJepaConfig:
    """Config section `objective`, name `gmm_jepa`."""

    name: str = "gmm_jepa"  # chooses this objective
    jepa_weight: float = 1.0  # weight of the latent loss; 0: the anchor alone
    lambda_start: float = 1.0  # weight of the cluster loss at step 0 [paper: λ]
    lambda_end: float = 0.01  # weight of the cluster loss at the last step, reached linearly [paper: λ]
    visible_weight: float = 0.0  # weight of the cluster loss on visible frames
    sigreg_weight: float = 0.0  # effective weight of SIGReg on the student's output; 0: none [LeJEPA: λ N]
    sigreg_directions: int = 1024  # random directions of SIGReg, drawn anew in each step [LeJEPA: M]
    predictor_blocks: int = 1  # blocks of the predictor
    ema_start: float = 0.996  # decay of the teacher at step 0
    ema_end: float = 0.9999  # decay of the teacher at the last step, reached linearly

    def __post_init__(self) -> None:
        check_sizes(self, "objective", ("sigreg_directions",))
        check_weight(self.sigreg_weight)
        if not 0 <= self.predictor_blocks <= DEEPEST:
            raise UsageError(
                f"config key objective.predictor_blocks = {self.predictor_blocks}: expected 0 to {DEEPEST:,}"
            )


@dataclass(frozen=True)
class GmmJepa(AnchoredObjective):
    config: GmmJepaConfig
    predictor: Pure

    @property
    def latent(self) -> bool:
        return self.config.jepa_weight > 0

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        keys = jax.random.split(key, 3)
        params, aux_state = {"encoder": self.encoder.init(keys[0])}, {}
        if self.latent:
            params["predictor"] = self.predictor.init(keys[1])
            aux_state["teacher"] = self.teacher(params)
        if self.targets:
            params["head"] = self.head.init(keys[2])
            aux_state |= self.targets.init()
        return params, aux_state

    def teacher(self, params: Tree) -> Tree:
        return jax.tree.map(jnp.copy, params["encoder"])  # its own buffers

    def loss(
        self, params: Tree, aux_state: Tree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[dict[str, Term], Tree]:
        view = self.view(batch, key)
        z = self.encode(params, view.mixed, view.lengths, view.mask, fold(view.keys, ENCODER)).z  # (B, T, D)
        terms: dict[str, Term] = {}
        stats: dict[str, Any] = {"context": masked_moments(z, view.masked)}
        if self.latent:
            prediction = self.predictor.apply(
                params["predictor"], z, view.mask, view.frame_lengths, fold(view.keys, PREDICTOR)
            ).astype(jnp.float32)
            target = self.target(aux_state, view.unmixed, view.lengths)
            error = jnp.square(prediction - target).mean(-1)  # (B, T)
            terms["jepa"] = mean_term(error, view.masked, self.config.jepa_weight)
            stats["prediction"] = masked_moments(prediction, view.masked)
            stats["target"] = masked_moments(target, view.masked)
        if self.targets:
            log_p = jax.nn.log_softmax(self.head.apply(params["head"], z, fold(view.keys, HEAD)))  # (B, T, K)
            labels = self.targets(aux_state, batch, view.clean, view.frame_lengths, z.shape[1])
            divergence = kl_to_sparse(labels.ids, labels.probs, log_p)  # (B, T)
            lam = self.lam(step)
            cluster, sums = cluster_terms(view, labels, log_p, divergence, lam, lam * self.config.visible_weight)
            terms |= cluster | {
                "posterior_entropy": mean_term(sparse_entropy(labels.probs), view.masked * labels.known),
                "lambda": Term(lam, jnp.ones(()), 0.0),
            }
            stats |= sums
        if self.config.sigreg_weight > 0:
            directions = unit_vectors(key, step, self.config.sigreg_directions, z.shape[-1])
            sigreg = sigreg_term(z, view.masked + view.visible, directions, self.config.sigreg_weight)
            terms["sigreg"], stats["sigreg"] = sigreg, (sigreg.total, sigreg.weight)
        return terms, stats

    def target(self, aux_state: Tree, unmixed: jax.Array, lengths: jax.Array) -> jax.Array:
        """The teacher's latents of the whole, unmixed view, without dropout, layer-normalised: (B, T, D) float32."""
        z = self.encoder.apply(aux_state["teacher"], unmixed, lengths).z
        return jax.nn.standardize(jax.lax.stop_gradient(z).astype(jnp.float32), epsilon=1e-5)

    def lam(self, step: jax.Array) -> jax.Array:
        """λ(t), linear from lambda_start to lambda_end over the run."""
        return linear_schedule(self.config.lambda_start, self.config.lambda_end, self.steps, step)

    def decay(self, step: jax.Array) -> jax.Array:
        """The teacher's EMA decay, linear from ema_start to ema_end over the run."""
        return linear_schedule(self.config.ema_start, self.config.ema_end, self.steps, step)

    def update_aux_state(self, aux_state: Tree, params: Tree, stats: Tree, step: jax.Array) -> Tree:
        """θ_teacher ← d · θ_teacher + (1 − d) · θ_student, in float32."""
        if not self.latent:
            return aux_state
        teacher = optax.incremental_update(params["encoder"], aux_state["teacher"], 1 - self.decay(step))
        return aux_state | {"teacher": teacher}

    def report(self, stats: Tree) -> dict[str, jax.Array]:
        """label_entropy less posterior_entropy is the cluster loss of a predictor that knows only frequencies."""
        latent = [name for name in ("prediction", "target") if name in stats]
        sigreg = {"sigreg_excess": excess(*stats["sigreg"])} if "sigreg" in stats else {}
        return super().report(stats) | {f"{name}_variance": variance(stats[name]) for name in latent} | sigreg


SECTIONS = {"objective": GmmJepaConfig}


def build(config: RunConfig, anchor: Anchor | Ensemble | None = None) -> GmmJepa:
    """From the whole config; raises UsageError where its sections contradict each other."""
    objective, parts = of_kind(config.objective, GmmJepaConfig), masked_parts(config)
    targets = None
    if objective.lambda_start > 0 or objective.lambda_end > 0:
        targets = anchor_targets(config, anchor, parts["encoder"], "objective.lambda_start > 0")
    clusters = targets.config.components if targets else 1
    predictor, head = predictor_and_head(config.encoder, config.head, clusters, objective.predictor_blocks)
    return GmmJepa(**parts, config=objective, predictor=predictor, head=head, targets=targets)
