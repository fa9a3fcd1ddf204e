"""Span masks, drawn per row, with static shapes; and the values at masked frames.

Each random number belongs to a row and a frame (or candidate span). Padding adds numbers at the end and changes none.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jepa_speech.errors import UsageError

Fill = Literal["learned", "random", "zero", "noise"]
NOISE = 0.1  # standard deviation of `noise`, in units of normalised log-mel values (arXiv 2202.01855, section 3.2)


@dataclass(frozen=True)
class MaskConfig:
    """Config section `mask`: which frames are masked, and from what."""

    # `pre_context`: masked before the encoder; `pre_predictor`: only before the predictor, as in the released code
    site: Literal["pre_context", "pre_predictor"] = "pre_context"
    # how spans are drawn: `exact`: until the share `ratio` of the frames is masked; `spans`: a number of them that
    # `probability` sets, as in wav2vec 2.0; `bernoulli`: each frame starts one with `probability`; `centres`: around
    # random frames, then single frames are added or removed until the share `ratio` is masked, as in data2vec 2.0
    policy: Literal["exact", "spans", "bernoulli", "centres"] = "exact"
    # of `exact` and `centres`: the masked share of a row's frames, drawn from U(low, high)
    ratio: tuple[float, float] = (0.4, 0.65)
    # shortest and longest span in frames; equal unless `policy` is `exact` [fairseq: mask_length]
    span: tuple[int, int] = (10, 25)
    # of `spans` and `centres`: a row gets about probability * frames / span of them; of `bernoulli`: that a frame
    # starts a span [fairseq: mask_prob]
    probability: float = 0.65
    min_spans: int = 2  # of `spans`: the fewest spans of a row [fairseq: min_masks]
    # at masked frames: one `learned` vector, `random` normal ones, or `zero`; or `noise`: log-mel frames of N(0, 0.1),
    # before the front-end's layers (BEST-RQ)
    fill: Fill = "learned"

    def __post_init__(self) -> None:
        if not 0 < self.ratio[0] <= self.ratio[1] < 1:
            raise UsageError(f"config key mask.ratio = {self.ratio}: expected 0 < low <= high < 1")
        if not 1 <= self.span[0] <= self.span[1]:
            raise UsageError(f"config key mask.span = {self.span}: expected 1 <= shortest <= longest")
        if self.policy != "exact" and self.span[0] != self.span[1]:
            raise UsageError(f"config key mask.span = {self.span}: mask.policy = {self.policy} has spans of one length")
        if not 0 < self.probability < 1 or self.min_spans < 1:
            raise UsageError("config keys mask.probability, mask.min_spans: expected one in (0, 1), and at least 1")

    @property
    def drawn(self) -> bool:
        """Whether masked frames are random draws, which only training makes."""
        return self.fill in ("random", "noise")


def span_masks(keys: jax.Array, lengths: jax.Array, size: int, config: MaskConfig) -> jax.Array:
    """keys (B,), lengths (B,) in frames -> (B, size) bool, True where masked; none beyond a row's length.

    At least one frame of each row is masked. At least one stays visible if the row has two.
    """
    row = {"exact": _exact, "spans": _spans, "bernoulli": _bernoulli, "centres": _centres}[config.policy]
    return jax.vmap(lambda key, length: row(key, length, size, config))(keys, lengths)


def most_visible(size: int, config: MaskConfig) -> int:
    """Returns a number of frames that a row of up to `size` frames never has more visible than, for static shapes.

    With `exact` and `centres` it follows from the smallest ratio, and longer rows have more visible frames.
    """
    masked = 1
    if config.policy in ("exact", "centres"):
        masked = max(1, int(np.float32(config.ratio[0]) * np.float32(size)))  # in the type in which masks are drawn
    return max(1, size - masked)


def fill_masked(
    x: jax.Array, mask: jax.Array | None, fill: Fill, embedding: nnx.Param[jax.Array] | None, keys: jax.Array | None
) -> jax.Array:
    """x (B, T, D) with masked frames replaced: by `embedding` (D,), by 0, or by draws of `keys`, N(0, 1) or noise."""
    if mask is None:
        return x
    if fill == "zero":
        return jnp.where(mask[..., None], 0, x)
    if embedding is not None:
        return jnp.where(mask[..., None], embedding[...].astype(x.dtype), x)
    assert keys is not None
    draw = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:]))(keys)
    draw = NOISE * draw if fill == "noise" else draw
    return jnp.where(mask[..., None], draw.astype(x.dtype), x)


def input_mask(mask: jax.Array, frame_lengths: jax.Array, size: int, per_frame: int) -> jax.Array:
    """mask (B, T) of the encoder's frames -> (B, size) of its input frames, `per_frame` to one.

    Input frames after a row's last whole frame are masked where that frame is.
    """
    frame = jnp.minimum(jnp.arange(size) // per_frame, jnp.maximum(frame_lengths, 1)[:, None] - 1)
    return jnp.take_along_axis(mask, frame, 1)


def mask_channels(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """x (B, T, D) with 0 where mask (B, D) is True, in all frames (SpecAugment, arXiv 1904.08779, on features)."""
    return x if mask is None else jnp.where(mask[:, None], 0, x)


def _exact(key: jax.Array, length: jax.Array, size: int, config: MaskConfig) -> jax.Array:
    """Exactly round(ratio * length) frames (arXiv 2602.09040; spans and ratios of its released code)."""
    ratio_key, span_key = jax.random.split(key)
    count = _count(jnp.round(_ratio(ratio_key, config) * length), length)
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


def _centres(key: jax.Array, length: jax.Array, size: int, config: MaskConfig) -> jax.Array:
    """Exactly floor(ratio * length) frames (data2vec 2.0's released code).

    floor(p T / L) centres are drawn uniformly, with replacement, and spans of L frames laid around them. Then random
    frames of the spans become visible, or random frames outside become masked.
    """
    ratio_key, centre_key, frame_key = jax.random.split(key, 3)
    count = _count(jnp.floor(_ratio(ratio_key, config) * length), length)
    span, frame = config.span[0], jnp.arange(size)
    candidates = jnp.arange(int(config.probability * size / span) + 1)
    draw = jax.vmap(lambda n: jax.random.uniform(jax.random.fold_in(centre_key, n)))(candidates)
    offset = frame[:, None] - jnp.floor(draw * length).astype(int) + span // 2  # (T, candidates)
    drawn = candidates < jnp.floor(config.probability * length / span)
    covered = ((offset >= 0) & (offset < span) & drawn).any(1)
    order = _per_frame(frame_key, size) + ~covered  # below 1 inside of a span, from 1 on outside
    rank = jnp.argsort(jnp.argsort(jnp.where(frame < length, order, 2.0)))
    return (rank < count) & (frame < length)


def _ratio(key: jax.Array, config: MaskConfig) -> jax.Array:
    return jax.random.uniform(key, (), minval=config.ratio[0], maxval=config.ratio[1])


def _count(count: jax.Array, length: jax.Array) -> jax.Array:
    """The number of masked frames of a row: at least one, and one fewer than there are."""
    return jnp.clip(count.astype(int), 1, jnp.maximum(length - 1, 1))


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
