"""Connectionist temporal classification (Graves et al. 2006): loss, greedy decoding and edit distance.

L = −log Σ_π Π_t p(π_t | t)   over all paths π (T,) that give the text once repeats, then blanks, are taken out
"""

import jax
import jax.numpy as jnp
import optax

from jepa_speech.nn.row_random import valid
from jepa_speech.text.vocabulary import BLANK


def ctc_loss(
    logits: jax.Array, frame_lengths: jax.Array, ids: jax.Array, lengths: jax.Array, blank: int = BLANK
) -> tuple[jax.Array, jax.Array]:
    """Returns L of each row in nats, float32 (B,), and whether the row has a path, 1 or 0 (B,); L is 0 without a path.

    logits (B, T, V), frame_lengths (B,), ids (B, U) with lengths (B,). A text needs one frame for each symbol, and one
    more between two equal symbols.
    """
    inside, spoken = valid(frame_lengths, logits.shape[1]), valid(lengths, ids.shape[1])
    nats = optax.ctc_loss(logits.astype(jnp.float32), 1.0 - inside, ids, 1.0 - spoken, blank_id=blank)
    alike = (ids[:, 1:] == ids[:, :-1]) & spoken[:, 1:]
    feasible = lengths + alike.sum(1) <= frame_lengths
    return jnp.where(feasible, nats, 0), feasible.astype(jnp.float32)


def best_path(logits: jax.Array, frame_lengths: jax.Array, blank: int = BLANK) -> tuple[jax.Array, jax.Array]:
    """Greedy decoding, the likeliest class of each frame: logits (B, T, V) -> ids (B, T), zero padded, lengths (B,)."""
    path = logits.argmax(-1)  # (B, T)
    new = jnp.pad(path[:, 1:] != path[:, :-1], ((0, 0), (1, 0)), constant_values=True)
    kept = new & (path != blank) & valid(frame_lengths, path.shape[1])
    place = jnp.where(kept, kept.cumsum(1) - 1, path.shape[1])  # those beyond the end are dropped
    ids = jax.vmap(lambda row, at: jnp.zeros_like(row).at[at].set(row, mode="drop"))(path, place)
    return ids, kept.sum(1)


def edit_distance(a: jax.Array, a_lengths: jax.Array, b: jax.Array, b_lengths: jax.Array) -> jax.Array:
    """Fewest insertions, deletions and substitutions (Levenshtein): a (B, N), b (B, M) with lengths (B,) -> (B,)."""
    columns = jnp.arange(b.shape[1] + 1)

    def of_row(a: jax.Array, n: jax.Array, b: jax.Array, m: jax.Array) -> jax.Array:
        def step(above: jax.Array, symbol: jax.Array) -> tuple[jax.Array, jax.Array]:
            # Deletion or substitution first; then insertions, each of which costs one more than its left neighbour.
            best = above + 1
            best = best.at[1:].min(above[:-1] + (b != symbol))
            best = jax.lax.cummin(best - columns) + columns
            return best, best

        rows = jax.lax.scan(step, columns, a)[1]  # (N, M + 1): row i after i + 1 symbols of a
        return jnp.where(n == 0, m, rows[n - 1, m])

    return jax.vmap(of_row)(a, a_lengths, b, b_lengths)
