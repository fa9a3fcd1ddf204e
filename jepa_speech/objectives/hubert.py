"""HuBERT (arXiv 2106.07447): predict the cluster of each masked frame.

    L = mean over masked frames of CE(c_t, softmax_k(cos(A z_t, e_k) / τ))  +  w · mean(features²)        (eq. 3)

c_t: the anchor's most likely component (a k-means cluster of MFCC, then of an earlier model's layer); A: a projection;
e_k: learned embeddings of the clusters; τ = 0.1; the second term keeps the convolutions' output small.

WavLM (arXiv 2110.13900) is the same objective, with a gated relative position bias in the encoder and other recordings
mixed into the student's input (`configs/wavlm.py`); labels are those of the clean recording.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.anchors.anchor import Anchor
from jepa_speech.anchors.ensemble import Ensemble
from jepa_speech.config import of_kind
from jepa_speech.errors import UsageError
from jepa_speech.nn.linear import Linear
from jepa_speech.nn.module import Pure
from jepa_speech.nn.row_random import fold
from jepa_speech.nn.similarity import cosine
from jepa_speech.objective_parts.anchored import AnchoredObjective, AnchorTargets, anchor_targets, cluster_terms
from jepa_speech.objective_parts.collapse import masked_moments
from jepa_speech.objective_parts.contract import Batch, Term, Tree
from jepa_speech.objective_parts.masked import ENCODER, masked_parts
from jepa_speech.objective_parts.terms import mean_term, negative_log_likelihood
from jepa_speech.settings.run_config import RunConfig


@dataclass(frozen=True)
class HubertConfig:
    """Config section `objective`, name `hubert`; also for WavLM."""

    name: str = "hubert"  # chooses this objective
    projection: int = 256  # width in which frames and clusters are compared [fairseq: final_dim]
    temperature: float = 0.1  # divides the cosine similarities [fairseq: logit_temp]
    # weight of the loss on visible frames; on masked ones it is 1 [fairseq: pred_nomask_weight]
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
class Hubert(AnchoredObjective):
    config: HubertConfig
    targets: AnchorTargets

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        keys = jax.random.split(key)
        return {"encoder": self.encoder.init(keys[0]), "head": self.head.init(keys[1])}, self.targets.init()

    def loss(
        self, params: Tree, aux_state: Tree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[dict[str, Term], Tree]:
        view = self.view(batch, key)
        encoded = self.encode(params, view.mixed, view.lengths, view.mask, fold(view.keys, ENCODER))
        log_p = jax.nn.log_softmax(self.head.apply(params["head"], encoded.z))  # (B, T, K)
        labels = self.targets(aux_state, batch, view.clean, view.frame_lengths, view.mask.shape[1]).hard()
        surprise = negative_log_likelihood(log_p, labels.ids[..., 0])  # (B, T)
        terms, stats = cluster_terms(view, labels, log_p, surprise, 1.0, self.config.visible_weight)
        terms["feature_penalty"] = mean_term(encoded.energy, view.masked + view.visible, self.config.feature_penalty)
        return terms, stats | {"context": masked_moments(encoded.z, view.masked)}


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
