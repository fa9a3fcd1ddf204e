"""HuBERT (arXiv 2106.07447): predict the cluster of each hidden frame.

    L = mean over hidden frames of CE(c_t, softmax_k(cos(A z_t, e_k) / τ))  +  w · mean(features²)        (eq. 3)

c_t: the anchor's most likely component (a k-means cluster of MFCC, then of an earlier model's layer); A: a projection;
e_k: learned embeddings of the clusters; τ = 0.1; the second term keeps the convolutions' output small.

WavLM (arXiv 2110.13900) is the same objective with a gated relative position bias in the encoder and other voices
added to the student's input (`configs/wavlm.py`); labels are those of the clean recording.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.anchors.anchor import Anchor
from jepa_speech.anchors.ensemble import Ensemble
from jepa_speech.config import of_kind
from jepa_speech.errors import UsageError
from jepa_speech.nn.build_encoder import encoder_input
from jepa_speech.nn.linear import Linear
from jepa_speech.nn.module import Pure
from jepa_speech.nn.row_random import fold
from jepa_speech.nn.similarity import cosine
from jepa_speech.objective_parts.anchored import AnchorTargets, anchor_targets
from jepa_speech.objective_parts.collapse import effective_rank, moments, usage_entropy
from jepa_speech.objective_parts.contract import Batch, Term, Tree
from jepa_speech.objective_parts.masked import ENCODER, MaskedObjective, masked_parts
from jepa_speech.settings.run_config import RunConfig


@dataclass(frozen=True)
class HubertConfig:
    """Config section `objective`, name `hubert`; also for WavLM."""

    name: str = "hubert"  # chooses this objective
    projection: int = 256  # width in which frames and clusters are compared [fairseq: final_dim]
    temperature: float = 0.1  # divides the cosine similarities [fairseq: logit_temp]
    # weight of the loss on visible frames; on hidden ones it is 1 [fairseq: pred_nomask_weight]
    visible_weight: float = 0.0
    feature_penalty: float = 10.0  # weight of the mean square of the front-end's features [fairseq: loss_weights]


class UnitHead(nnx.Module):
    """Logits of the clusters: cosine of a projection to learned embeddings, over the temperature."""

    def __init__(self, width: int, clusters: int, config: HubertConfig, rngs: nnx.Rngs):
        self.temperature = config.temperature
        self.projection = Linear(width, config.projection, rngs=rngs)
        self.embeddings = nnx.Param(jax.random.uniform(rngs.params(), (clusters, config.projection)))

    def __call__(self, z: jax.Array) -> jax.Array:
        """z (B, T, D) -> (B, T, K) float32."""
        x = self.projection(z.astype(jnp.float32))
        return cosine(x, self.embeddings[...]) / self.temperature


@dataclass(frozen=True)
class Hubert(MaskedObjective):
    config: HubertConfig
    targets: AnchorTargets
    head: Pure

    @property
    def batch_fields(self) -> frozenset[str]:
        return super().batch_fields | self.targets.batch_fields

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        keys = jax.random.split(key)
        return {"encoder": self.encoder.init(keys[0]), "head": self.head.init(keys[1])}, self.targets.init()

    def loss(
        self, params: Tree, aux_state: Tree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[dict[str, Term], Tree]:
        view = self.view(batch, key)
        encoded = self.encode(params, view.mixed, view.lengths, view.mask, fold(view.keys, ENCODER))
        log_p = jax.nn.log_softmax(self.head.apply(params["head"], encoded.z))  # (B, T, K)
        ids, _, labelled = self.targets(aux_state, batch, view.clean, view.frame_lengths, view.mask.shape[1])
        unit = ids[..., 0]  # (B, T)
        surprise = -jnp.take_along_axis(log_p, unit[..., None], -1)[..., 0]
        hidden, visible = view.hidden * labelled, view.visible * labelled
        every = view.hidden + view.visible
        terms = {
            "cluster": Term((surprise * hidden).sum(), hidden.sum(), 1.0),
            "cluster_visible": Term((surprise * visible).sum(), visible.sum(), self.config.visible_weight),
            "feature_penalty": Term((encoded.energy * every).sum(), every.sum(), self.config.feature_penalty),
            "cluster_accuracy": Term(((log_p.argmax(-1) == unit) * hidden).sum(), hidden.sum(), 0.0),
        }
        usage = jnp.einsum("btk,bt->k", jax.lax.stop_gradient(jnp.exp(log_p)), hidden)
        labels = jnp.zeros(log_p.shape[-1]).at[unit].add(hidden)
        return terms, {"context": moments(encoded.z, view.hidden), "usage": usage, "labels": labels}

    def report(self, stats: Tree) -> dict[str, jax.Array]:
        """label_entropy, in nats: what the loss is for a predictor that knows only how frequent clusters are."""
        return {
            "effective_rank": effective_rank(stats["context"]),
            "cluster_usage": usage_entropy(stats["usage"]),
            "label_entropy": usage_entropy(stats["labels"]) * jnp.log(stats["labels"].size),
        }

    def clusters(
        self, params: Tree, aux_state: Tree, wave: jax.Array, lengths: jax.Array, mask: jax.Array | None = None
    ) -> tuple[list[jax.Array], jax.Array]:
        """The head's cluster probabilities for every frame: [(B, T, K)] and frame lengths (B,).

        mask (B, T): frames that are hidden as in training, though without dropout; None hides nothing.
        """
        encoded = self.encode(params, encoder_input(self.encoder, wave, lengths), lengths, mask, None)
        return [jax.nn.softmax(self.head.apply(params["head"], encoded.z))], encoded.frame_lengths


SECTIONS = {"objective": HubertConfig}


def build(config: RunConfig, anchor: Anchor | Ensemble | None = None) -> Hubert:
    """From the whole config; raises UsageError where there is no anchor to take clusters from."""
    objective, parts = of_kind(config.objective, HubertConfig), masked_parts(config)
    if isinstance(anchor, Ensemble):
        raise UsageError("objective.name = hubert predicts the units of one anchor: name one in anchor.path")
    targets = anchor_targets(config, anchor, parts["encoder"], "objective.name = hubert")
    width, clusters = parts["encoder"].width, targets.config.components
    head = Pure(lambda rngs: UnitHead(width, clusters, objective, rngs))
    return Hubert(**parts, config=objective, targets=targets, head=head)
