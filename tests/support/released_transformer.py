"""The transformer of the released GMM-anchored JEPA: forward arithmetic of its public checkpoints.

It cannot be trained: its predictor is two 1x1 convolutions, so it predicts one and the same vector at every
masked frame, and the JEPA loss sends no gradient into the encoder.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.nn.linear import Linear
from jepa_speech.nn.module import Encoded
from jepa_speech.nn.released import BUCKETS, ClipNorm, bucket
from jepa_speech.nn.released_conv import conv, linear
from jepa_speech.nn.released_head import norm

CONVOLUTIONS = ((10, 5), *[(3, 2)] * 6)  # kernel and stride: frame t sees the samples [320 t, 320 t + 640)


@dataclass(frozen=True)
class ReleasedTransformerConfig:
    """channels: of the convolutions; hidden: of the feed-forward."""

    channels: int
    width: int
    hidden: int
    blocks: int
    heads: int


class RowRelativePositions(nnx.Module):
    """Relative position bias gated once per row and head, from the query averaged over time and heads."""

    def __init__(self, heads: int, head_width: int, rngs: nnx.Rngs):
        self.table = nnx.Param(jax.random.normal(rngs.params(), (BUCKETS, heads)))
        self.reset = Linear(head_width, heads, use_bias=False, rngs=rngs)
        self.update = Linear(head_width, heads, use_bias=False, rngs=rngs)
        self.scale = nnx.Param(jnp.ones(heads))

    def __call__(self, query: jax.Array) -> jax.Array:
        """query (B, T, H, D/H) -> bias (B, H, T, T)."""
        time = jnp.arange(query.shape[1])
        d = jnp.moveaxis(self.table[...][bucket(time - time[:, None])], -1, 0)  # (H, T, T)
        mean = query.mean((1, 2))  # (B, D/H)
        reset, update = jax.nn.sigmoid(self.reset(mean)), jax.nn.sigmoid(self.update(mean))  # (B, H)
        return (1 + update * self.scale[...] * reset)[..., None, None] * d


class TransformerBlock(nnx.Module):
    """Pre-norm attention and feed-forward."""

    def __init__(self, config: ReleasedTransformerConfig, rngs: nnx.Rngs):
        width, self.heads = config.width, config.heads
        self.attention_norm, self.ff_norm = norm(width, rngs), norm(width, rngs)
        self.query, self.key = linear(width, width, rngs), linear(width, width, rngs)
        self.value, self.out = linear(width, width, rngs), linear(width, width, rngs)
        self.up, self.down = linear(width, config.hidden, rngs), linear(config.hidden, width, rngs)

    def __call__(self, x: jax.Array, positions: RowRelativePositions) -> jax.Array:
        y = self.attention_norm(x)
        query, key, value = (
            project(y).reshape(*y.shape[:2], self.heads, -1) for project in (self.query, self.key, self.value)
        )
        logits = jnp.einsum("bthd,bshd->bhts", query, key) / math.sqrt(query.shape[-1]) + positions(query)
        x = x + self.out(jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(logits), value).reshape(x.shape))
        return x + self.down(jax.nn.gelu(self.up(self.ff_norm(x)), approximate=False))  # (B, T, D)


class ReleasedTransformerEncoder(nnx.Module):
    """Convolutions, each normalised over the whole clip, then transformer blocks."""

    def __init__(self, config: ReleasedTransformerConfig, rngs: nnx.Rngs):
        inputs = [1] + [config.channels] * (len(CONVOLUTIONS) - 1)
        self.convolutions = nnx.List(
            [
                conv(size, config.channels, kernel, rngs, stride=stride, bias=False)
                for size, (kernel, stride) in zip(inputs, CONVOLUTIONS, strict=True)
            ]
        )
        self.norms = nnx.List([ClipNorm(config.channels) for _ in CONVOLUTIONS])
        self.projection = linear(config.channels, config.width, rngs)
        self.norm = norm(config.width, rngs)
        self.positions = RowRelativePositions(config.heads, config.width // config.heads, rngs)
        self.blocks = nnx.List([TransformerBlock(config, rngs) for _ in range(config.blocks)])

    def __call__(self, wave: jax.Array, lengths: jax.Array) -> Encoded:
        """wave (B, S), lengths (B,) samples -> as the conformer's."""
        x = wave[..., None]  # (B, S, 1)
        for convolution, clip_norm in zip(self.convolutions, self.norms, strict=True):
            x = jax.nn.gelu(clip_norm(convolution(x)), approximate=False)
        layers, energy = [self.norm(self.projection(x))], jnp.square(x).mean(-1)  # (B, T, D), (B, T)
        for block in self.blocks:
            layers.append(block(layers[-1], self.positions))
        return Encoded(layers[-1], layers, (lengths - 320) // 320, x, energy, [])


class ReleasedTransformerPredictor(nnx.Module):
    """Mask token at masked frames, then linear, GELU, linear."""

    def __init__(self, config: ReleasedTransformerConfig, rngs: nnx.Rngs):
        self.mask_token = nnx.Param(0.02 * jax.random.normal(rngs.params(), (config.width,)))
        self.input = linear(config.width, config.width, rngs)
        self.output = linear(config.width, config.width, rngs)

    def __call__(self, z: jax.Array, mask: jax.Array, frame_lengths: jax.Array) -> jax.Array:
        """z (B, T, D), mask (B, T) True where hidden, frame_lengths unused -> predicted latents (B, T, D)."""
        x = jnp.where(mask[..., None], self.mask_token[...], z)
        return self.output(jax.nn.gelu(self.input(x), approximate=False))
