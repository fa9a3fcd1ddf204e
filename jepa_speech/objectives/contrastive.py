"""The contrastive task of wav2vec 2.0 (arXiv 2006.11477, eq. 3 and 4), shared with w2v-BERT.

    L_w = mean over hidden frames of −log softmax_0(cos(c_t, q_j) / κ),   j: the frame's own target, then K distractors
    L_d = (G V − Σ_g exp H(p̄_g)) / (G V),   p̄_g: mean of the quantiser's probabilities over all hidden frames

Distractors are targets of other hidden frames of the same recording; one with the codes of the true target counts as
none.
"""

import jax
import jax.numpy as jnp

from jepa_speech.nn.quantizer import Quantized
from jepa_speech.nn.similarity import cosine
from jepa_speech.objectives.contract import Term, Tree


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
        "contrastive": Term((surprise * hidden).sum(), hidden.sum(), weight),
        "contrastive_accuracy": Term((hit * hidden).sum(), hidden.sum(), 0.0),
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
