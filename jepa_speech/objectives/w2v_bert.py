"""w2v-BERT (arXiv 2108.06209): learn a codebook contrastively, and predict its codes at hidden frames, in one model.

    L = L_c + γ · L_m,   L_c = β · (L_w + 0.1 · L_d)                                                       (eq. 1)
    L_m = mean over hidden frames of CE(y_t, softmax(B z_t))

L_w, L_d: objectives/contrastive.py, read after the lower blocks of the encoder; z_t: the output of all blocks; y_t: the
code of the frame, a hard choice, through which no gradient of L_m reaches the quantiser. One mask serves both.

With β = 0 nothing holds the codebook: its usage collapses, and the accuracy of L_m goes to 1 (the paper's ablation).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.config import from_section
from jepa_speech.errors import UsageError
from jepa_speech.nn.module import Pure
from jepa_speech.nn.quantizer import GumbelQuantizer, QuantizerConfig
from jepa_speech.nn.rows import fold
from jepa_speech.objectives.collapse import effective_rank, moments
from jepa_speech.objectives.contract import Batch, Term, Tree
from jepa_speech.objectives.contrastive import code_perplexity, contrastive_terms, distractors
from jepa_speech.objectives.masked import ENCODER, OWN, MaskedObjective, masked_parts
from jepa_speech.objectives.wav2vec2 import check_distractors

NEGATIVES, GUMBEL = OWN[:2]


@dataclass(frozen=True)
class W2vBertConfig:
    """Config section `objective`. contrastive_blocks: after how many of the encoder's blocks L_w is read."""

    name: str = "w2v_bert"
    contrastive_blocks: int = 12
    projection: int = 1024
    distractors: int = 100
    temperature: float = 0.1
    contrastive_weight: float = 1.0
    diversity_weight: float = 0.1
    prediction_weight: float = 1.0


@dataclass(frozen=True)
class W2vBert(MaskedObjective):
    config: W2vBertConfig
    quantizer_config: QuantizerConfig
    quantizer: Pure
    final_proj: Pure
    project_q: Pure
    head: Pure

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        names = ("quantizer", "final_proj", "project_q", "head")
        keys = jax.random.split(key, len(names) + 1)
        heads = {name: getattr(self, name).init(k) for name, k in zip(names, keys[1:], strict=True)}
        return {"encoder": self.system.encoder.init(keys[0])} | heads, {}

    def check(self, shortest: int, longest: int) -> None:
        super().check(shortest, longest)
        check_distractors(self, self.config.distractors, longest)

    def loss(
        self, params: Tree, slow: Tree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[dict[str, Term], Tree]:
        view, config = self.view(batch, key), self.config
        hidden = view.hidden
        encoded = self.encode(params, view.heard, view.lengths, view.mask, fold(view.keys, ENCODER))
        temperature = self.quantizer_config.temperature_at(step)
        quantized = self.quantizer.apply(params["quantizer"], encoded.features, temperature, fold(view.keys, GUMBEL))
        terms, stats = contrastive_terms(
            self.final_proj.apply(params["final_proj"], encoded.layers[config.contrastive_blocks]),
            self.project_q.apply(params["project_q"], quantized.vectors),
            quantized,
            distractors(fold(view.keys, NEGATIVES), view.mask, config.distractors),
            hidden,
            config.temperature,
            config.contrastive_weight,
            config.diversity_weight,
        )
        log_p = jax.nn.log_softmax(self.head.apply(params["head"], encoded.z).astype(jnp.float32))  # (B, T, V)
        code = quantized.ids[..., 0]
        surprise = -jnp.take_along_axis(log_p, code[..., None], -1)[..., 0]
        terms["prediction"] = Term((surprise * hidden).sum(), hidden.sum(), config.prediction_weight)
        hit = (log_p.argmax(-1) == code) * hidden
        terms["prediction_accuracy"] = Term(hit.sum(), hidden.sum(), 0.0)
        return terms, stats | {"context": moments(encoded.z, hidden)}

    def report(self, stats: Tree) -> dict[str, jax.Array]:
        return {
            "effective_rank": effective_rank(stats["context"]),
            "code_perplexity": code_perplexity(stats["codes"]),
        }


def build(config: Mapping[str, Any], anchor: None = None) -> W2vBert:
    """From the whole config; raises UsageError where the contrastive blocks are not among the encoder's."""
    objective = from_section(W2vBertConfig, config["objective"], "objective")
    parts, codes = masked_parts(config), from_section(QuantizerConfig, config["quantizer"], "quantizer")
    if codes.groups != 1:
        raise UsageError(f"config key quantizer.groups = {codes.groups}: w2v-BERT predicts one code a frame, set 1")
    blocks = config["encoder"]["blocks"]
    if not 0 < objective.contrastive_blocks < blocks:
        raise UsageError(
            f"config key objective.contrastive_blocks = {objective.contrastive_blocks}: the encoder has {blocks} "
            f"blocks, choose 1 to {blocks - 1}"
        )
    width, inputs = parts["system"].width, parts["system"].features
    return W2vBert(
        **parts,
        config=objective,
        quantizer_config=codes,
        quantizer=Pure(lambda rngs: GumbelQuantizer(inputs, codes, rngs)),
        final_proj=Pure(lambda rngs: nnx.Linear(width, objective.projection, rngs=rngs)),
        project_q=Pure(lambda rngs: nnx.Linear(codes.width, objective.projection, rngs=rngs)),
        head=Pure(lambda rngs: nnx.Linear(width, codes.codes, rngs=rngs)),
    )
