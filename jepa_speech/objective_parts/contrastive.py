"""The contrastive task of wav2vec 2.0 (arXiv 2006.11477, eq. 3 and 4), shared with w2v-BERT.

    L_w = mean over masked frames of −log softmax_0(cos(c_t, q_j) / κ),   j: the frame's own target, then K distractors
    L_d = (G V − Σ_g exp H(p̄_g)) / (G V),   p̄_g: mean of the quantiser's probabilities over all masked frames

Distractors are targets of other masked frames of the same recording. A distractor with the codes of the true target is
ignored.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jepa_speech.config import of_kind, present
from jepa_speech.errors import UsageError
from jepa_speech.nn.linear import Linear
from jepa_speech.nn.module import Pure
from jepa_speech.nn.quantizer import GumbelQuantizer, Quantized, QuantizerConfig
from jepa_speech.nn.row_random import fold
from jepa_speech.nn.similarity import cosine
from jepa_speech.objective_parts.contract import Term, Tree
from jepa_speech.objective_parts.masked import OWN, MaskedObjective, View, masked_parts
from jepa_speech.objective_parts.terms import mean_term
from jepa_speech.settings.run_config import RunConfig

NEGATIVES, GUMBEL = OWN[:2]


@dataclass(frozen=True)
class ContrastiveConfig:
    """Keys that the config section `objective` has in wav2vec 2.0 and w2v-BERT."""

    projection: int = 256  # width in which frames and codes are compared [fairseq: final_dim]
    distractors: int = 100  # distractors of each masked frame [fairseq: num_negatives; paper: K]
    temperature: float = 0.1  # divides the cosine similarities [fairseq: logit_temp; paper: κ]
    diversity_weight: float = 0.1  # weight of the diversity loss L_d [fairseq: loss_weights, first]


@dataclass(frozen=True)
class ContrastiveObjective(MaskedObjective):
    config: ContrastiveConfig
    quantizer_config: QuantizerConfig
    quantizer: Pure
    final_proj: Pure
    project_q: Pure

    heads: ClassVar[tuple[str, ...]] = ("quantizer", "final_proj", "project_q")  # fields, and names in params

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        keys = jax.random.split(key, len(self.heads) + 1)
        heads = {name: getattr(self, name).init(k) for name, k in zip(self.heads, keys[1:], strict=True)}
        return {"encoder": self.encoder.init(keys[0])} | heads, {}

    def check(self, shortest: int, longest: int) -> None:
        """Also raises UsageError if even a clip of `longest` samples has fewer masked frames than L_w needs."""
        super().check(shortest, longest)
        keys = jax.random.split(jax.random.PRNGKey(0), 8)
        size, count = int(self.encoder.frames(longest)), self.config.distractors
        masked = int(self.draw_mask(keys, jnp.full(len(keys), size), size).sum(1).max())
        if masked <= count:
            raise UsageError(
                f"config key objective.distractors = {count}: the longest clips ({size} frames) mask about {masked} "
                "frames, fewer than that; lower objective.distractors, or raise data.buckets or mask.probability"
            )

    def contrast(
        self, params: Tree, view: View, context: jax.Array, features: jax.Array, step: jax.Array, weight: float
    ) -> tuple[dict[str, Term], Tree, Quantized]:
        """context (B, T, D) of the student, unmasked features (B, T, C) -> terms, stats, chosen codes."""
        temperature = self.quantizer_config.temperature_at(step)
        quantized = self.quantizer.apply(params["quantizer"], features, temperature, fold(view.keys, GUMBEL))
        terms, stats = contrastive_terms(
            self.final_proj.apply(params["final_proj"], context),
            self.project_q.apply(params["project_q"], quantized.vectors),
            quantized,
            distractors(fold(view.keys, NEGATIVES), view.mask, self.config.distractors),
            view.masked,
            self.config.temperature,
            weight,
            self.config.diversity_weight,
        )
        return terms | {"temperature": Term(temperature, jnp.ones(()), 0.0)}, stats, quantized

    def report(self, stats: Tree) -> dict[str, jax.Array]:
        return super().report(stats) | {"code_perplexity": code_perplexity(stats["codes"])}


def contrastive_parts(config: RunConfig) -> dict[str, Any]:
    """The fields of ContrastiveObjective. Raises UsageError if the quantiser's input would be masked."""
    if config.mask.fill == "noise":
        raise UsageError(
            "config key mask.fill = noise: masks the features that the quantiser needs; set mask.fill to random"
        )
    parts, codes = masked_parts(config), present(config.quantizer, "quantizer")
    objective = of_kind(config.objective, ContrastiveConfig)
    width, inputs = parts["encoder"].width, parts["encoder"].features
    return parts | {
        "config": objective,
        "quantizer_config": codes,
        "quantizer": Pure(lambda rngs: GumbelQuantizer(inputs, codes, rngs)),
        "final_proj": Pure(lambda rngs: Linear(width, objective.projection, rngs=rngs)),
        "project_q": Pure(lambda rngs: Linear(codes.width, objective.projection, rngs=rngs)),
    }


def distractors(keys: jax.Array, mask: jax.Array, count: int) -> jax.Array:
    """keys (B,), mask (B, T) True where masked -> (B, T, count): for each masked frame, other masked frames of its row.

    Uniform, with replacement. If a row masks only one frame, that frame itself is returned.
    """

    def row(key: jax.Array, masked: jax.Array) -> jax.Array:
        order = jnp.argsort(~masked, stable=True)  # masked frames first
        rank = jnp.cumsum(masked) - 1  # (T,) which of the masked frames a masked frame is
        others = jnp.maximum(masked.sum() - 1, 1)
        draw = jnp.floor(jax.random.uniform(key, (len(masked), count)) * others).astype(int)
        return order[jnp.minimum(draw, others - 1) + (draw >= rank[:, None]) * (masked.sum() > 1)]

    return jax.vmap(row)(keys, mask)


def contrastive_terms(
    context: jax.Array,
    targets: jax.Array,
    quantized: Quantized,
    negatives: jax.Array,
    masked: jax.Array,
    temperature: float,
    weight: float,
    diversity_weight: float,
) -> tuple[dict[str, Term], Tree]:
    """context, targets (B, T, D) projected, negatives (B, T, K) frames, masked (B, T) weights -> terms, stats.

    Stats: `codes` (G, V), how often each code was a target.
    """
    similarity = cosine(context, targets) / temperature  # (B, T, T), of which distractors are drawn
    positive = jnp.diagonal(similarity, axis1=1, axis2=2)  # (B, T)
    negative = jnp.take_along_axis(similarity, negatives, -1)  # (B, T, K)
    rows = jnp.arange(len(negatives))[:, None, None]
    same = (quantized.ids[rows, negatives] == quantized.ids[:, :, None]).all(-1)  # (B, T, K)
    logits = jnp.concatenate([positive[..., None], jnp.where(same, -jnp.inf, negative)], -1)
    surprise = -jax.nn.log_softmax(logits)[..., 0]  # (B, T)
    hit = (logits[..., 1:] < logits[..., :1]).all(-1) & ~same.all(-1)
    usage = jnp.einsum("btgv,bt->gv", quantized.probs, masked)
    terms = {
        "contrastive": mean_term(surprise, masked, weight),
        "contrastive_accuracy": mean_term(hit, masked),
        "diversity": Term(usage, masked.sum(), weight * diversity_weight, diversity),
    }
    codes = jnp.einsum("btgv,bt->gv", jax.nn.one_hot(quantized.ids, usage.shape[1]), masked)
    return terms, {"codes": codes}


def perplexity(p: jax.Array) -> jax.Array:
    """exp of the entropy of each group's code probabilities: (G, V) -> (G,)."""
    return jnp.exp(-jnp.sum(p * jnp.log(p + 1e-7), -1))


def diversity(p: jax.Array) -> jax.Array:
    """Mean probabilities (G, V) -> 0 if all codes are used equally, 1 - 1/V if only one is."""
    return (p.size - perplexity(p).sum()) / p.size


def code_perplexity(codes: jax.Array) -> jax.Array:
    """Counts (G, V) -> perplexity of the codes, mean over groups: V if all are used equally."""
    return perplexity(codes / jnp.maximum(codes.sum(-1, keepdims=True), 1)).mean()
