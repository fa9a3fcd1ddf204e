"""Frozen targets: the anchor's labels of each frame, read from the store or computed in the step.

GMM-anchored JEPA and HuBERT share them, and the figures of a head that predicts them.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jepa_speech.anchors.anchor import Anchor
from jepa_speech.anchors.ensemble import Ensemble
from jepa_speech.anchors.gmm import DiagonalGMM, frame_posteriors
from jepa_speech.anchors.sparse import top_k
from jepa_speech.errors import UsageError
from jepa_speech.features.grid import FRAME_RATE, WINDOW
from jepa_speech.features.spectral import DIMS, delta_edge
from jepa_speech.nn.build_encoder import encoder_input
from jepa_speech.nn.module import Pure, PureEncoder
from jepa_speech.nn.row_random import valid
from jepa_speech.objective_parts.collapse import cluster_usage, count_entropy, entropy
from jepa_speech.objective_parts.contract import Batch, Term, Tree
from jepa_speech.objective_parts.masked import MaskedObjective, View
from jepa_speech.objective_parts.terms import mean_term
from jepa_speech.settings.run_config import AnchorConfig, RunConfig


class Labels(NamedTuple):
    """The anchor's labels of each frame: the k largest of its posteriors."""

    ids: jax.Array  # (B, T, k) the likeliest first
    probs: jax.Array  # (B, T, k)
    known: jax.Array  # (B, T) True where a frame has a label

    def hard(self) -> "Labels":
        """The likeliest component alone, with probability 1."""
        return Labels(self.ids[..., :1], jnp.ones_like(self.probs[..., :1]), self.known)


@dataclass(frozen=True)
class AnchorTargets:
    config: AnchorConfig
    anchor: Anchor | Ensemble | None = None

    @property
    def online(self) -> bool:
        return self.config.source == "online"

    @property
    def batch_fields(self) -> frozenset[str]:
        if not self.online:
            return frozenset({"anchor"})
        return frozenset({"anchor_mean"} if self.config.normalize == "mean" else ())

    def init(self) -> Tree:
        """Returns the part of `aux_state` for the targets: the frozen anchor, if labels are computed in the step.

        When a checkpoint is restored, only the shapes matter.
        """
        if not self.online:
            return {}
        if self.anchor is not None:
            assert isinstance(self.anchor, Anchor)  # labels of an ensemble are stored
            return {"anchor": self.anchor.arrays()}
        blank = np.ones((self.config.components, DIMS[self.config.features]), np.float32)
        mixture = DiagonalGMM(
            means=blank,
            variances=blank,
            weights=blank[:, 0],
            shift=blank[0],
            scale=blank[0],
            features=self.config.features,
        )
        return {"anchor": mixture.arrays()}

    def __call__(self, aux_state: Tree, batch: Batch, clean: jax.Array, frame_lengths: jax.Array, size: int) -> Labels:
        """Returns the labels of the clean waves (B, S), which have `frame_lengths` (B,) of at most `size` frames."""
        if not self.online:
            return Labels(batch["anchor_ids"], batch["anchor_probs"], valid(frame_lengths, size))
        kind = self.config.features
        dense = frame_posteriors(
            aux_state["anchor"], kind, clean, mean=batch.get("anchor_mean"), lengths=batch["lengths"]
        )
        ids, q = top_k(dense, self.config.top_k)
        edge = delta_edge(kind)  # deltas there would read samples beyond the crop
        known = valid(frame_lengths - edge, size) & (jnp.arange(size) >= edge)
        return Labels(jax.lax.stop_gradient(ids), jax.lax.stop_gradient(q), known)


@dataclass(frozen=True)
class AnchoredObjective(MaskedObjective):
    """A masked objective whose head predicts the anchor's clusters."""

    head: Pure
    targets: AnchorTargets | None  # None: no anchor, and no head

    @property
    def batch_fields(self) -> frozenset[str]:
        return super().batch_fields | (self.targets.batch_fields if self.targets else frozenset())

    def report(self, stats: Tree) -> dict[str, jax.Array]:
        """label_entropy, in nats, is the cross-entropy of a predictor that knows only how frequent clusters are."""
        return super().report(stats) | (cluster_figures(stats) if "usage" in stats else {})

    def clusters(
        self, params: Tree, aux_state: Tree, wave: jax.Array, lengths: jax.Array, mask: jax.Array | None = None
    ) -> tuple[list[jax.Array], jax.Array]:
        """The head's cluster probabilities for every frame: [(B, T, K)] and frame lengths (B,).

        mask (B, T): frames to mask, as in training but without dropout; None masks nothing.
        """
        if not self.targets:
            raise UsageError("this checkpoint was trained without an anchor (λ ≡ 0): it has no cluster head")
        encoded = self.encode(params, encoder_input(self.encoder, wave, lengths), lengths, mask, None)
        return [jax.nn.softmax(self.head.apply(params["head"], encoded.z))], encoded.frame_lengths


def cluster_terms(
    view: View,
    labels: Labels,
    log_p: jax.Array,
    loss: jax.Array,
    weight: jax.Array | float,
    visible_weight: jax.Array | float,
) -> tuple[dict[str, Term], Tree]:
    """The terms and stats of predicted clusters: log_p (B, T, K), and the loss (B, T) of each frame.

    Stats: `usage` (K,), the sum of the predictions at masked frames, and `labels` (K,), that of the labels.
    """
    masked, visible = view.masked * labels.known, view.visible * labels.known
    terms = {
        "cluster": mean_term(loss, masked, weight),
        "cluster_visible": mean_term(loss, visible, visible_weight),
        "cluster_accuracy": mean_term(log_p.argmax(-1) == labels.ids[..., 0], masked),
    }
    usage = jnp.einsum("btk,bt->k", jax.lax.stop_gradient(jnp.exp(log_p)), masked)
    return terms, {
        "usage": usage,
        "labels": jnp.zeros(log_p.shape[-1]).at[labels.ids].add(labels.probs * masked[..., None]),
    }


def cluster_figures(stats: Tree) -> dict[str, jax.Array]:
    """Figures of the stats of `cluster_terms`."""
    return {"cluster_usage": cluster_usage(stats["usage"]), "label_entropy": count_entropy(stats["labels"])}


def sparse_entropy(q: jax.Array) -> jax.Array:
    """Entropy in nats of the k largest posteriors, the pooled rest as one class: (B, T, k) -> (B, T)."""
    rest = jnp.maximum(1 - q.sum(-1, keepdims=True), 0)
    return entropy(jnp.concatenate([q, rest], -1))


def anchor_targets(
    config: RunConfig, anchor: Anchor | Ensemble | None, encoder: PureEncoder, why: str
) -> AnchorTargets:
    """Returns the targets of a config. Raises UsageError, with the reason `why`, if no anchor fits."""
    section = config.anchor
    if section.components == 0:
        raise UsageError(f"{why} needs an anchor: set anchor.path to what `jepa-speech fit` wrote")
    if section.source == "online" and section.features not in DIMS:
        raise UsageError(f"config key anchor.features = {section.features!r}: expected {' or '.join(DIMS)}")
    if encoder.frame_rate != FRAME_RATE:
        raise UsageError(
            f"{why} has labels at {FRAME_RATE:g} Hz, but encoder.name = {config.encoder.name} has frames at "
            f"{encoder.frame_rate:g} Hz: choose another encoder"
        )
    if encoder.min_samples != WINDOW:
        raise UsageError(
            f"{why} has a label for every frame that {WINDOW} samples fill, but a frame of encoder.name = "
            f"{config.encoder.name} takes {encoder.min_samples}: choose another encoder or an objective without "
            "an anchor"
        )
    return AnchorTargets(section, anchor)
