"""Span masks with an exact number of masked frames, drawn per row, with static shapes."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from jepa_speech.errors import UsageError


@dataclass(frozen=True)
class MaskConfig:
    """Config section `mask`. A fraction ~ U(ratio) of each row's frames is hidden, in spans of U{span} frames.

    site: `pre_context` hides the frames from the encoder; `pre_predictor`, as in the released code, only
    from the predictor.
    """

    site: Literal["pre_context", "pre_predictor"] = "pre_context"
    ratio: tuple[float, float] = (0.4, 0.65)
    span: tuple[int, int] = (10, 25)

    def __post_init__(self) -> None:
        if not 0 < self.ratio[0] <= self.ratio[1] < 1:
            raise UsageError(f"config key mask.ratio = {self.ratio}: expected 0 < low <= high < 1")
        if not 1 <= self.span[0] <= self.span[1]:
            raise UsageError(f"config key mask.span = {self.span}: expected 1 <= shortest <= longest")


def span_masks(keys: jax.Array, lengths: jax.Array, size: int, config: MaskConfig) -> jax.Array:
    """Masks of the GMM-anchored JEPA (arXiv 2602.09040; spans and ratios of its released code).

    keys (B,), lengths (B,) in frames -> (B, size) bool, True where hidden. Exactly round(ratio * length)
    frames of each row are hidden (at least one, and at least one stays visible where there are two).
    """
    return jax.vmap(lambda key, length: _row(key, length, size, config))(keys, lengths)


def _row(key: jax.Array, length: jax.Array, size: int, config: MaskConfig) -> jax.Array:
    ratio_key, span_key = jax.random.split(key)
    ratio = jax.random.uniform(ratio_key, (), minval=config.ratio[0], maxval=config.ratio[1])
    count = jnp.clip(jnp.round(ratio * length).astype(int), 1, jnp.maximum(length - 1, 1))
    # Spans are laid one after the other until `count` frames are covered; the last one is cut short. Enough
    # candidates are drawn that running out is next to impossible even when all are shortest and overlap. Each has
    # a key of its own, so that padding, which adds candidates, moves none.
    candidates = 4 + 3 * size // config.span[0]
    draw = jax.vmap(lambda n: jax.random.uniform(jax.random.fold_in(span_key, n), (2,)))(jnp.arange(candidates))
    longest = jnp.minimum(config.span[1], jnp.maximum(config.span[0], length // 3))
    spans = config.span[0] + jnp.floor(draw[:, 0] * (longest + 1 - config.span[0])).astype(int)
    starts = jnp.floor(draw[:, 1] * jnp.maximum(length - spans + 1, 1)).astype(int)
    offset = jnp.arange(size)[:, None] - starts  # (T, candidates)
    covered = (offset >= 0) & (offset < spans)
    first = jnp.where(covered.any(1), covered.argmax(1), candidates)  # (T,) the span that hides a frame first
    frame = jnp.arange(size)
    order = jnp.where(frame < length, first * size + frame, (candidates + 1) * size)
    rank = jnp.argsort(jnp.argsort(order))
    return (rank < count) & (frame < length)
