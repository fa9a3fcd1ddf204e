"""Span masks, drawn per row, with static shapes; and the values at masked frames.

Each random number belongs to a row and a frame (or candidate span). Padding adds numbers at the end and changes none.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.errors import UsageError


@dataclass(frozen=True)
class MaskConfig:
    """Config section `mask`: which frames are masked, and from what."""

    # `pre_context`: masked before the encoder; `pre_predictor`: only before the predictor, as in the released code
    site: Literal["pre_context", "pre_predictor"] = "pre_context"
    # how spans are drawn: `exact`: until the share `ratio` of the frames is masked; `spans`: a number of them that
    # `probability` sets, as in wav2vec 2.0; `bernoulli`: each frame starts one with `probability`
    policy: Literal["exact", "spans", "bernoulli"] = "exact"
    ratio: tuple[float, float] = (0.4, 0.65)  # of `exact`: the masked share of a row's frames, drawn from U(low, high)
    # shortest and longest span in frames; equal unless `policy` is `exact` [fairseq: mask_length]
    span: tuple[int, int] = (10, 25)
    # of `spans`: about probability * frames / span spans are drawn in a row; of `bernoulli`: that a frame starts a
    # span [fairseq: mask_prob]
    probability: float = 0.65
    min_spans: int = 2  # of `spans`: the fewest spans of a row [fairseq: min_masks]
    fill: Literal["learned", "random"] = "learned"  # at masked frames: one `learned` vector, or `random` normal ones

    def __post_init__(self) -> None:
        if not 0 < self.ratio[0] <= self.ratio[1] < 1:
            raise UsageError(f"config key mask.ratio = {self.ratio}: expected 0 < low <= high < 1")
        if not 1 <= self.span[0] <= self.span[1]:
            raise UsageError(f"config key mask.span = {self.span}: expected 1 <= shortest <= longest")
        if self.policy != "exact" and self.span[0] != self.span[1]:
            raise UsageError(f"config key mask.span = {self.span}: mask.policy = {self.policy} has spans of one length")
        if not 0 < self.probability < 1 or self.min_spans < 1:
            raise UsageError("config keys mask.probability, mask.min_spans: expected one in (0, 1), and at least 1")


def span_masks(keys: jax.Array, lengths: jax.Array, size: int, config: MaskConfig) -> jax.Array:
    """keys (B,), lengths (B,) in frames -> (B, size) bool, True where masked; none beyond a row's length.

    At least one frame of each row is masked. At least one stays visible if the row has two.
    """
    row = {"exact": _exact, "spans": _spans, "bernoulli": _bernoulli}[config.policy]
    return jax.vmap(lambda key, length: row(key, length, size, config))(keys, lengths)


def fill_masked(
    x: jax.Array, mask: jax.Array | None, embedding: nnx.Param[jax.Array] | None, keys: jax.Array | None
) -> jax.Array:
    """x (B, T, D) with masked frames replaced: by `embedding` (D,), or, without one, by N(0, 1) draws of `keys`."""
    if mask is None:
        return x
    if embedding is not None:
        return jnp.where(mask[..., None], embedding[...].astype(x.dtype), x)
    assert keys is not None
    draw = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:]))(keys)
    return jnp.where(mask[..., None], draw.astype(x.dtype), x)


def mask_channels(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """x (B, T, D) with 0 where mask (B, D) is True, in all frames (SpecAugment, arXiv 1904.08779, on features)."""
    return x if mask is None else jnp.where(mask[:, None], 0, x)


def _exact(key: jax.Array, length: jax.Array, size: int, config: MaskConfig) -> jax.Array:
    """Exactly round(ratio * length) frames (arXiv 2602.09040; spans and ratios of its released code)."""
    ratio_key, span_key = jax.random.split(key)
    ratio = jax.random.uniform(ratio_key, (), minval=config.ratio[0], maxval=config.ratio[1])
    count = jnp.clip(jnp.round(ratio * length).astype(int), 1, jnp.maximum(length - 1, 1))
    # Spans are laid one after the other until `count` frames are covered; the last one is cut short. Enough
    # candidates are drawn that running out is next to impossible even when all are shortest and overlap.
    candidates = 4 + 3 * size // config.span[0]
    draw = jax.vmap(lambda n: jax.random.uniform(jax.random.fold_in(span_key, n), (2,)))(jnp.arange(candidates))
    longest = jnp.minimum(config.span[1], jnp.maximum(config.span[0], length // 3))
    spans = config.span[0] + jnp.floor(draw[:, 0] * (longest + 1 - config.span[0])).astype(int)
    starts = jnp.floor(draw[:, 1] * jnp.maximum(length - spans + 1, 1)).astype(int)
    offset = jnp.arange(size)[:, None] - starts  # (T, candidates)
    covered = (offset >= 0) & (offset < spans)
    first = jnp.where(covered.any(1), covered.argmax(1), candidates)  # (T,) the first span that covers a frame
    frame = jnp.arange(size)
    order = jnp.where(frame < length, first * size + frame, (candidates + 1) * size)
    rank = jnp.argsort(jnp.argsort(order))
    return (rank < count) & (frame < length)


def _spans(key: jax.Array, length: jax.Array, size: int, config: MaskConfig) -> jax.Array:
    """max(min_spans, floor(p T / L + U(0, 1))) distinct starts, uniform in [0, T - L) (wav2vec 2.0's released code)."""
    span = config.span[0]
    count_key, start_key = jax.random.split(key)
    count = jnp.floor(config.probability * length / span + jax.random.uniform(count_key)).astype(int)
    room = jnp.maximum(length - span, 1)
    draws = _per_frame(start_key, size)
    rank = jnp.argsort(jnp.argsort(jnp.where(jnp.arange(size) < room, draws, 2.0)))
    starts = (rank < jnp.maximum(count, config.min_spans)) & (jnp.arange(size) < room)
    return _dilate(starts, length, span)


def _bernoulli(key: jax.Array, length: jax.Array, size: int, config: MaskConfig) -> jax.Array:
    """Each frame starts a span with the given probability; the likeliest one does where none would."""
    draws = jnp.where(jnp.arange(size) < jnp.maximum(length - 1, 1), _per_frame(key, size), 2.0)
    starts = (draws < config.probability) | (jnp.arange(size) == draws.argmin())
    return _dilate(starts, length, config.span[0])


def _per_frame(key: jax.Array, size: int) -> jax.Array:
    return jax.vmap(lambda t: jax.random.uniform(jax.random.fold_in(key, t)))(jnp.arange(size))


def _dilate(starts: jax.Array, length: jax.Array, span: int) -> jax.Array:
    """True at the `span` frames from each start (T,) on; the last valid frame stays visible."""
    begun = jnp.cumsum(starts)
    ended = jnp.pad(begun, (span, 0))[: len(begun)]
    return (begun > ended) & (jnp.arange(len(starts)) < jnp.maximum(length - 1, 1))
