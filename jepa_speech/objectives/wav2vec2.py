"""wav2vec 2.0 (arXiv 2006.11477): tell the quantised features of a hidden frame from those of other hidden frames.

    L = L_w + 0.1 · L_d + 10 · mean(features²)                       (eq. 2; the penalty is the released code's)

L_w, L_d: objectives/contrastive.py. The quantiser sees the front-end's features of the clean wave, nothing hidden.
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

NEGATIVES, GUMBEL = OWN[:2]


@dataclass(frozen=True)
class Wav2Vec2Config:
    """Config section `objective`."""

    name: str = "wav2vec2"
    projection: int = 256
    distractors: int = 100
    temperature: float = 0.1
    diversity_weight: float = 0.1
    feature_penalty: float = 10.0


@dataclass(frozen=True)
class Wav2Vec2(MaskedObjective):
    config: Wav2Vec2Config
    quantizer_config: QuantizerConfig
    quantizer: Pure
    final_proj: Pure
    project_q: Pure

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        names = ("quantizer", "final_proj", "project_q")
        keys = jax.random.split(key, len(names) + 1)
        heads = {name: getattr(self, name).init(k) for name, k in zip(names, keys[1:], strict=True)}
        return {"encoder": self.system.encoder.init(keys[0])} | heads, {}

    def check(self, shortest: int, longest: int) -> None:
        """Raises UsageError, too, where not even the longest clips can hide as many frames as there are distractors."""
        super().check(shortest, longest)
        check_distractors(self, self.config.distractors, longest)

    def loss(
        self, params: Tree, slow: Tree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[dict[str, Term], Tree]:
        view = self.view(batch, key)
        encoded = self.encode(params, view.heard, view.lengths, view.mask, fold(view.keys, ENCODER))
        temperature = self.quantizer_config.temperature_at(step)
        quantized = self.quantizer.apply(params["quantizer"], encoded.features, temperature, fold(view.keys, GUMBEL))
        terms, stats = contrastive_terms(
            self.final_proj.apply(params["final_proj"], encoded.z),
            self.project_q.apply(params["project_q"], quantized.vectors),
            quantized,
            self.negatives(fold(view.keys, NEGATIVES), view.mask),
            view.hidden,
            self.config.temperature,
            1.0,
            self.config.diversity_weight,
        )
        every = view.hidden + view.visible
        terms["feature_penalty"] = Term((encoded.energy * every).sum(), every.sum(), self.config.feature_penalty)
        terms["temperature"] = Term(temperature, jnp.ones(()), 0.0)
        return terms, stats | {"context": moments(encoded.z, view.hidden)}

    def negatives(self, keys: jax.Array, mask: jax.Array) -> jax.Array:
        return distractors(keys, mask, self.config.distractors)

    def report(self, stats: Tree) -> dict[str, jax.Array]:
        return {
            "effective_rank": effective_rank(stats["context"]),
            "code_perplexity": code_perplexity(stats["codes"]),
        }


def check_distractors(objective: MaskedObjective, count: int, longest: int) -> None:
    """Raises UsageError where even a clip of `longest` samples hides no more than `count` frames."""
    keys = jax.random.split(jax.random.PRNGKey(0), 8)
    size = int(objective.system.frames(longest))
    hidden = int(objective.hide(keys, jnp.full(len(keys), size), size).sum(1).max())
    if hidden <= count:
        raise UsageError(
            f"config key objective.distractors = {count}: the longest clips ({size} frames) hide about {hidden} "
            "frames, fewer than that; lower objective.distractors, or raise data.buckets or mask.probability"
        )


def build(config: Mapping[str, Any], anchor: None = None) -> Wav2Vec2:
    """From the whole config."""
    objective = from_section(Wav2Vec2Config, config["objective"], "objective")
    parts, codes = masked_parts(config), from_section(QuantizerConfig, config["quantizer"], "quantizer")
    width, inputs = parts["system"].width, parts["system"].features
    return Wav2Vec2(
        **parts,
        config=objective,
        quantizer_config=codes,
        quantizer=Pure(lambda rngs: GumbelQuantizer(inputs, codes, rngs)),
        final_proj=Pure(lambda rngs: nnx.Linear(width, objective.projection, rngs=rngs)),
        project_q=Pure(lambda rngs: nnx.Linear(codes.width, objective.projection, rngs=rngs)),
    )
