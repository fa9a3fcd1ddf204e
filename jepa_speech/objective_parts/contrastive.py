"""The contrastive task of wav2vec 2.0 (arXiv 2006.11477, eq. 3 and 4), shared with w2v-BERT.

    L_w = mean over hidden frames of −log softmax_0(cos(c_t, q_j) / κ),   j: the frame's own target, then K distractors
    L_d = (G V − Σ_g exp H(p̄_g)) / (G V),   p̄_g: mean of the quantiser's probabilities over all hidden frames

Distractors are targets of other hidden frames of the same recording; one with the codes of the true target counts as
none.
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
    distractors: int = 100  # distractors of each hidden frame [fairseq: num_negatives; paper: K]
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
        """Raises UsageError, too, where not even a clip of `longest` samples hides as many frames as L_w draws."""
        super().check(shortest, longest)
        keys = jax.random.split(jax.random.PRNGKey(0), 8)
        size, count = int(self.encoder.frames(longest)), self.config.distractors
        hidden = int(self.hide(keys, jnp.full(len(keys), size), size).sum(1).max())
        if hidden <= count:
            raise UsageError(
                f"config key objective.distractors = {count}: the longest clips ({size} frames) hide about {hidden} "
                "frames, fewer than that; lower objective.distractors, or raise data.buckets or mask.probability"
            )

    def contrast(
        self, params: Tree, view: View, context: jax.Array, features: jax.Array, step: jax.Array, weight: float
    ) -> tuple[dict[str, Term], Tree, Quantized]:
        """context (B, T, D) of the student, features (B, T, C) with nothing hidden -> terms, stats, what was chosen."""
        temperature = self.quantizer_config.temperature_at(step)
        quantized = self.quantizer.apply(params["quantizer"], features, temperature, fold(view.keys, GUMBEL))
        terms, stats = contrastive_terms(
            self.final_proj.apply(params["final_proj"], context),
            self.project_q.apply(params["project_q"], quantized.vectors),
            quantized,
            distractors(fold(view.keys, NEGATIVES), view.mask, self.config.distractors),
            view.hidden,
            self.config.temperature,
            weight,
            self.config.diversity_weight,
        )
        return terms | {"temperature": Term(temperature, jnp.ones(()), 0.0)}, stats, quantized

    def report(self, stats: Tree) -> dict[str, jax.Array]:
        return super().report(stats) | {"code_perplexity": code_perplexity(stats["codes"])}


def contrastive_parts(config: RunConfig) -> dict[str, Any]:
    """The fields of ContrastiveObjective."""
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
    """keys (B,), mask (B, T) True where hidden -> (B, T, count): for each hidden frame, other hidden frames of its row.

    Uniform, with replacement. Where a row hides one frame there is no other: the frame itself comes back.
    """

    def row(key: jax.Array, hidden: jax.Array) -> jax.Array:
        order = jnp.argsort(~hidden, stable=True)  # hidden frames first
        rank = jnp.cumsum(hidden) - 1  # (T,) which of the hidden frames a hidden frame is
        others = jnp.maximum(hidden.sum() - 1, 1)
        draw = jnp.floor(jax.random.uniform(key, (len(hidden), count)) * others).astype(int)
        return order[jnp.minimum(draw, others - 1) + (draw >= rank[:, None]) * (hidden.sum() > 1)]

    return jax.vmap(row)(keys, mask)


def contrastive_terms(
    context: jax.Array,
    targets: jax.Array,
    quantized: Quantized,
    negatives: jax.Array,
    hidden: jax.Array,
    temperature: float,
    weight: float,
    diversity_weight: float,
) -> tuple[dict[str, Term], Tree]:
    """context, targets (B, T, D) projected, negatives (B, T, K) frames, hidden (B, T) weights -> terms, stats.

    Stats: `codes` (G, V), how often each code was a target.
    """
    similarity = cosine(context, targets) / temperature  # (B, T, T): rows of it hold all that the draw may choose
    positive = jnp.diagonal(similarity, axis1=1, axis2=2)  # (B, T)
    negative = jnp.take_along_axis(similarity, negatives, -1)  # (B, T, K)
    rows = jnp.arange(len(negatives))[:, None, None]
    same = (quantized.ids[rows, negatives] == quantized.ids[:, :, None]).all(-1)  # (B, T, K)
    logits = jnp.concatenate([positive[..., None], jnp.where(same, -jnp.inf, negative)], -1)
    surprise = -jax.nn.log_softmax(logits)[..., 0]  # (B, T)
    hit = (logits[..., 1:] < logits[..., :1]).all(-1) & ~same.all(-1)
    usage = jnp.einsum("btgv,bt->gv", quantized.probs, hidden)
    terms = {
        "contrastive": mean_term(surprise, hidden, weight),
        "contrastive_accuracy": mean_term(hit, hidden),
        "diversity": Term(usage, hidden.sum(), weight * diversity_weight, diversity),
    }
    codes = jnp.einsum("btgv,bt->gv", jax.nn.one_hot(quantized.ids, usage.shape[1]), hidden)
    return terms, {"codes": codes}


def perplexity(p: jax.Array) -> jax.Array:
    """exp of the entropy of each group's code probabilities: (G, V) -> (G,)."""
    return jnp.exp(-jnp.sum(p * jnp.log(p + 1e-7), -1))


def diversity(p: jax.Array) -> jax.Array:
    """Mean probabilities (G, V) -> 0 where all codes are used alike, 1 - 1/V where one is."""
    return (p.size - perplexity(p).sum()) / p.size


def code_perplexity(codes: jax.Array) -> jax.Array:
    """Counts (G, V) -> perplexity of the codes in use, mean over groups: V where all are used alike."""
    return perplexity(codes / jnp.maximum(codes.sum(-1, keepdims=True), 1)).mean()
