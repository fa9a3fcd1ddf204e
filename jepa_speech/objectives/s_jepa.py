"""Phase 2 of S-JEPA (arXiv 2606.19398): predict the posteriors of an online mixture on a layer of the EMA teacher.

    L = mean over masked frames of KL(q_t ‖ p_t)
    p_t = softmax(head(ẑ_t)) at masked frames, softmax(head(z_t)) at visible ones, which only `visible_weight` trains

q_t: posterior of a diagonal mixture of K components, before this step's update, on the features of one layer of the
teacher for the clean, whole recording; z_t: the encoder's output; ẑ_t: the predictor's. No gradient reaches teacher or
mixture. Teacher ← d · teacher + (1 − d) · encoder, with d alternating between two values.

Phase 1 is GMM-anchored JEPA or the anchor alone (objectives/gmm_jepa.py), from which this starts by `init_from`.
Without it the encoder is random until the mixture is seeded, some steps after the start: the loss is 0 before.

The mixture (anchors/online.py) and its layer (objective_parts/online_mixture.py) are global and in checkpoints. Unlike
in the paper's code: sums run over the whole batch without padding; features are standardised per dimension when the
mixture is seeded, so that the floor of the variances is a share of theirs (0.01); components are seeded with one
variance for all; dead ones are revived; another layer means another seeding; posteriors are predicted by their largest
components. If the layer stays the same, the standardisation is that of the seeding for the rest of the run.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jepa_speech.anchors import online
from jepa_speech.anchors.sparse import kl_to_sparse, top_k
from jepa_speech.config import DEEPEST, check_sizes, of_kind
from jepa_speech.errors import UsageError
from jepa_speech.nn.build_encoder import encoder_input, predictor_and_head
from jepa_speech.nn.module import Pure
from jepa_speech.nn.row_random import fold, valid
from jepa_speech.objective_parts import reservoir
from jepa_speech.objective_parts.anchored import Labels, cluster_figures, cluster_terms, sparse_entropy
from jepa_speech.objective_parts.collapse import cluster_usage, effective_rank, masked_moments
from jepa_speech.objective_parts.contract import Batch, Term, Tree
from jepa_speech.objective_parts.masked import ENCODER, OWN, MaskedObjective, masked_parts
from jepa_speech.objective_parts.online_mixture import FRAMES, OnlineMixture, chosen, is_seeded
from jepa_speech.objective_parts.terms import mean_term
from jepa_speech.settings.run_config import RunConfig

PREDICTOR, HEAD, OFFER = OWN[:3]


@dataclass(frozen=True)
class SJepaConfig:
    """Config section `objective`, name `s_jepa`."""

    name: str = "s_jepa"  # chooses this objective
    components: int = 500  # of the mixture [paper: K]
    # how batches update it: `statistics`: averages of the sums of an M step; `parameters`: averages of weights, means
    # and variances, as in the paper
    mixture_update: online.Rule = "statistics"
    mixture_decay: float = 0.999  # of these averages [paper: α of the GMM]
    layer_every: int = 10_000  # steps between choices of the teacher's layer, by effective rank
    reservoir: int = 8192  # frames kept of each layer, to choose it and to seed the mixture
    top_k: int = 16  # components of a posterior that are predicted one by one; the rest is one pooled class
    visible_weight: float = 0.0  # weight of the loss on visible frames
    predictor_blocks: int = 1  # blocks of the predictor
    ema_fast: float = 0.999  # decay of the teacher in the first `ema_every` steps, and in every second period
    ema_slow: float = 0.9999  # decay of the teacher in the other periods
    ema_every: int = 20_000  # steps of a period

    def __post_init__(self) -> None:
        check_sizes(self, "objective", ("components", "reservoir", "top_k"))
        check_sizes(self, "objective", ("predictor_blocks",), DEEPEST)
        check_sizes(self, "objective", ("layer_every", "ema_every"), 2**31 - 1)
        if not 0 < self.mixture_decay < 1:
            raise UsageError(f"config key objective.mixture_decay = {self.mixture_decay}: expected above 0, below 1")
        if self.reservoir < 2 * FRAMES * self.components:
            raise UsageError(
                f"config key objective.reservoir = {self.reservoir}: objective.components = {self.components} are "
                f"seeded on it, which needs at least {2 * FRAMES * self.components} frames"
            )


@dataclass(frozen=True)
class SJepa(MaskedObjective):
    config: SJepaConfig
    predictor: Pure
    head: Pure
    mixture: OnlineMixture
    rows: float  # of the largest batch

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        keys = jax.random.split(key, 3)
        parts = {"encoder": self.encoder, "predictor": self.predictor, "head": self.head}
        params = {name: part.init(k) for (name, part), k in zip(parts.items(), keys, strict=True)}
        return params, {"teacher": self.teacher(params), "online": self.mixture.init()}

    def teacher(self, params: Tree) -> Tree:
        return jax.tree.map(jnp.copy, params["encoder"])  # its own buffers

    def loss(
        self, params: Tree, aux_state: Tree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[dict[str, Term], Tree]:
        view, state = self.view(batch, key), aux_state["online"]
        z = self.encode(params, view.mixed, view.lengths, view.mask, fold(view.keys, ENCODER)).z  # (B, T, D)
        log_p = jax.nn.log_softmax(self.logits(params, z, view.mask, view.frame_lengths, view.keys))  # (B, T, K)

        layers = self.layers(aux_state["teacher"], view.unmixed, view.lengths)
        features = chosen(state["layer"], layers)  # (B, T, D)
        x = online.standardised(state["mixture"], features)
        q = jax.lax.stop_gradient(online.posteriors(state["mixture"], x))  # (B, T, K)
        labels = Labels(*top_k(q, min(self.config.top_k, q.shape[-1])), valid(view.frame_lengths, z.shape[1]))

        divergence = kl_to_sparse(labels.ids, labels.probs, log_p)  # (B, T)
        weight = jax.lax.stop_gradient(is_seeded(state).astype(jnp.float32))
        terms, stats = cluster_terms(view, labels, log_p, divergence, weight, weight * self.config.visible_weight)
        terms |= {
            "posterior_entropy": mean_term(sparse_entropy(labels.probs), view.masked),
            "mixture_layer": Term(1.0 + state["layer"].argmax(), jnp.ones(()), 0.0),
        }
        slots = self.config.reservoir, self.rows
        offer = fold(view.keys, OFFER), layers, view.frame_lengths, batch["weight"], *slots
        return terms, stats | {
            "context": masked_moments(z, view.masked),
            "target": masked_moments(features, view.masked),
            "sums": online.sums(q, jax.lax.stop_gradient(x), view.masked + view.visible),
            "offer": reservoir.offered(*offer),
        }

    def layers(self, teacher: Tree, wave: jax.Array, lengths: jax.Array) -> list[jax.Array]:
        """The outputs of the teacher's blocks [(B, T, D)] for the clean, whole view, without dropout."""
        return jax.lax.stop_gradient(self.encoder.apply(teacher, wave, lengths).layers[1:])

    def logits(
        self, params: Tree, z: jax.Array, mask: jax.Array | None, frame_lengths: jax.Array, keys: jax.Array | None
    ) -> jax.Array:
        """The head's logits (B, T, K): of the predictor's output at masked frames, of the encoder's z at the others."""
        if mask is not None:
            predicted = self.predictor.apply(params["predictor"], z, mask, frame_lengths, fold(keys, PREDICTOR))
            z = jnp.where(mask[..., None], predicted, z)
        return self.head.apply(params["head"], z, fold(keys, HEAD))

    def decay(self, step: jax.Array) -> jax.Array:
        """The teacher's EMA decay: ema_fast for ema_every steps, then ema_slow for as many, and so on."""
        return jnp.where(step // self.config.ema_every % 2 == 0, self.config.ema_fast, self.config.ema_slow)

    def update_aux_state(self, aux_state: Tree, params: Tree, stats: Tree, step: jax.Array) -> Tree:
        """The next teacher and the next mixture. The mixture's sums are those of the teacher before."""
        return {
            "teacher": optax.incremental_update(params["encoder"], aux_state["teacher"], 1 - self.decay(step)),
            "online": self.mixture.update(aux_state["online"], stats["sums"], stats["offer"], step),
        }

    def report(self, stats: Tree) -> dict[str, jax.Array]:
        """target_rank: effective rank of the mixture's features; mixture_usage: how evenly their frames use it."""
        return (
            super().report(stats)
            | cluster_figures(stats)
            | {
                "target_rank": effective_rank(stats["target"]),
                "mixture_usage": cluster_usage(stats["sums"].counts),
            }
        )

    def clusters(
        self, params: Tree, aux_state: Tree, wave: jax.Array, lengths: jax.Array, mask: jax.Array | None = None
    ) -> tuple[list[jax.Array], jax.Array]:
        """The head's cluster probabilities for every frame: [(B, T, K)] and frame lengths (B,).

        mask (B, T): frames to mask, as in training but without dropout; None masks nothing.
        """
        encoded = self.encode(params, encoder_input(self.encoder, wave, lengths), lengths, mask, None)
        logits = self.logits(params, encoded.z, mask, encoded.frame_lengths, None)
        return [jax.nn.softmax(logits)], encoded.frame_lengths


SECTIONS = {"objective": SJepaConfig}


def build(config: RunConfig, anchor: Any = None) -> SJepa:
    """From the whole config. An anchor is not used."""
    objective, parts = of_kind(config.objective, SJepaConfig), masked_parts(config)
    clusters = objective.components
    predictor, head = predictor_and_head(config.encoder, config.head, clusters, objective.predictor_blocks)
    rows = config.data.batch_seconds / min(config.data.buckets)
    mixture = OnlineMixture(
        components=clusters,
        layers=config.encoder.blocks,
        width=parts["encoder"].width,
        rule=objective.mixture_update,
        decay=objective.mixture_decay,
        layer_every=objective.layer_every,
        size=objective.reservoir,
    )
    return SJepa(**parts, config=objective, predictor=predictor, head=head, mixture=mixture, rows=rows)
