"""w2v-BERT (arXiv 2108.06209): learn a codebook contrastively, and predict its codes at masked frames, in one model.

    L = L_c + γ · L_m,   L_c = β · (L_w + 0.1 · L_d)                                                       (eq. 1)
    L_m = mean over masked frames of CE(y_t, softmax(B z_t))

L_w, L_d: objective_parts/contrastive.py, read after the lower blocks of the encoder; z_t: the output of all blocks;
y_t: the code of the frame, a hard choice, so that no gradient of L_m reaches the quantiser. Both use one mask.

With β = 0 the codebook collapses, and the accuracy of L_m goes to 1 (the paper's ablation).
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from jepa_speech.config import of_kind
from jepa_speech.errors import UsageError
from jepa_speech.nn.linear import Linear
from jepa_speech.nn.module import Pure
from jepa_speech.nn.row_random import fold
from jepa_speech.objective_parts.collapse import masked_moments
from jepa_speech.objective_parts.contract import Batch, Term, Tree
from jepa_speech.objective_parts.contrastive import (
    ContrastiveConfig,
    ContrastiveObjective,
    contrastive_parts,
)
from jepa_speech.objective_parts.masked import ENCODER
from jepa_speech.objective_parts.terms import mean_term, negative_log_likelihood
from jepa_speech.settings.run_config import RunConfig


@dataclass(frozen=True)
class W2vBertConfig(ContrastiveConfig):
    """Config section `objective`, name `w2v_bert`."""

    name: str = "w2v_bert"  # chooses this objective
    contrastive_blocks: int = 12  # the number of encoder blocks after which the contrastive loss is read
    contrastive_weight: float = 1.0  # weight of the contrastive loss [paper: β]
    prediction_weight: float = 1.0  # weight of the prediction of codes [paper: γ]


@dataclass(frozen=True)
class W2vBert(ContrastiveObjective):
    config: W2vBertConfig
    head: Pure

    heads: ClassVar[tuple[str, ...]] = (*ContrastiveObjective.heads, "head")

    def loss(
        self, params: Tree, aux_state: Tree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[dict[str, Term], Tree]:
        view, config = self.view(batch, key), self.config
        encoded = self.encode(params, view.mixed, view.lengths, view.mask, fold(view.keys, ENCODER))
        lower = encoded.layers[config.contrastive_blocks]
        terms, stats, quantized = self.contrast(params, view, lower, encoded.features, step, config.contrastive_weight)
        log_p = jax.nn.log_softmax(self.head.apply(params["head"], encoded.z).astype(jnp.float32))  # (B, T, V)
        code = quantized.ids[..., 0]
        surprise = negative_log_likelihood(log_p, code)  # (B, T)
        terms["prediction"] = mean_term(surprise, view.masked, config.prediction_weight)
        terms["prediction_accuracy"] = mean_term(log_p.argmax(-1) == code, view.masked)
        return terms, stats | {"context": masked_moments(encoded.z, view.masked)}


SECTIONS = {"objective": W2vBertConfig}


def build(config: RunConfig, anchor: None = None) -> W2vBert:
    """From the whole config; raises UsageError where the contrastive blocks are not among the encoder's."""
    objective, parts = of_kind(config.objective, W2vBertConfig), contrastive_parts(config)
    codes, width, blocks = parts["quantizer_config"], parts["encoder"].width, config.encoder.blocks
    if codes.groups != 1:
        raise UsageError(f"config key quantizer.groups = {codes.groups}: w2v-BERT predicts one code a frame, set 1")
    if not 0 < objective.contrastive_blocks < blocks:
        raise UsageError(
            f"config key objective.contrastive_blocks = {objective.contrastive_blocks}: the encoder has {blocks} "
            f"blocks, choose 1 to {blocks - 1}"
        )
    return W2vBert(**parts, head=Pure(lambda rngs: Linear(width, codes.codes, rngs=rngs)))
