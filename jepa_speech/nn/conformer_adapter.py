"""The adapter of Wav2Vec2-BERT, transformers' Wav2Vec2BertAdapter: layers between the encoder and its CTC layer.

Each layer makes fewer frames. It is a transformer block without positions, whose attention and whose residual each read
frames through a gated convolution of their own. Padding is set to zero before each convolution, so a row in a
batch gives the same result as alone.
"""

from dataclasses import replace
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.nn.blocks import FeedForward
from jepa_speech.nn.conformer_blocks import ACTIVATIONS, Attention, BlockSizes
from jepa_speech.nn.conv_positions import uniform_init
from jepa_speech.nn.conv_stack import EPSILON
from jepa_speech.nn.convolution import strided
from jepa_speech.nn.layer_norm import LayerNorm
from jepa_speech.nn.module import Pure
from jepa_speech.nn.row_random import dropout, fold, valid

Activation = Literal["relu", "gelu", "silu"]
ADAPTER_ACTIVATIONS = ACTIVATIONS | {"relu": jax.nn.relu}


class GatedConvolution(nnx.Module):
    """Norm, convolution over time, gate. Zeros pad both ends."""

    def __init__(self, sizes: BlockSizes, kernel: int, stride: int, rngs: nnx.Rngs):
        width, dtype = sizes.width, sizes.dtype
        self.padding = stride // 2
        self.norm = LayerNorm(width, dtype, rngs, EPSILON)
        self.convolution = nnx.Conv(
            width, 2 * width, kernel, strides=stride, padding="VALID", kernel_init=uniform_init, dtype=dtype, rngs=rngs
        )

    def __call__(self, x: jax.Array, inside: jax.Array) -> jax.Array:
        """x (B, T, D), inside (B, T) False where padded -> (B, T', D)."""
        x = jnp.where(inside[..., None], self.norm(x), 0)
        x = jnp.pad(x, ((0, 0), (self.padding, self.padding), (0, 0)))
        return jax.nn.glu(strided(self.convolution, x))


class AdapterLayer(nnx.Module):
    """sizes: of attention and feed-forward; attention must be without positions."""

    def __init__(
        self,
        sizes: BlockSizes,
        kernel: int,
        stride: int,
        activation: Activation,
        rngs: nnx.Rngs,
    ):
        width, dtype = sizes.width, sizes.dtype
        self.sizes, self.kernel, self.stride = sizes, kernel, stride
        self.residual, self.input = (GatedConvolution(sizes, kernel, stride, rngs) for _ in range(2))
        self.attention = Attention(sizes, rngs)
        self.ff_norm = LayerNorm(width, dtype, rngs, EPSILON)
        act = ADAPTER_ACTIVATIONS[activation]
        self.ff = FeedForward(width, sizes.hidden, sizes.activation_dropout, act, dtype, rngs)

    def __call__(
        self, x: jax.Array, frame_lengths: jax.Array, keys: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """x (B, T, D), frame_lengths (B,), keys (B,) or None -> (B, T', D), and how many of its frames are valid."""
        inside = valid(frame_lengths, x.shape[1])
        residual, x = self.residual(x, inside), self.input(x, inside)
        frame_lengths = fewer(frame_lengths, self.kernel, self.stride)
        mixed = self.attention(x, valid(frame_lengths, x.shape[1]), fold(keys, 0))
        x = residual + dropout(mixed, self.sizes.convolution_dropout, fold(keys, 1))
        ff = self.ff(self.ff_norm(x), fold(keys, 2))
        return x + dropout(ff, self.sizes.dropout, fold(keys, 3)), frame_lengths


class ConformerAdapter(nnx.Module):
    def __init__(
        self,
        sizes: BlockSizes,
        layers: int,
        kernel: int,
        stride: int,
        activation: Activation,
        rngs: nnx.Rngs,
    ):
        self.layers = nnx.List([AdapterLayer(sizes, kernel, stride, activation, rngs) for _ in range(layers)])

    def __call__(
        self, x: jax.Array, frame_lengths: jax.Array, keys: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """The encoder's output x (B, T, D), frame_lengths (B,), keys (B,) or None -> (B, T', D), and its lengths."""
        for i, layer in enumerate(self.layers):
            x, frame_lengths = layer(x, frame_lengths, fold(keys, i))
        return x, frame_lengths


def adapter_of(sizes: BlockSizes, layers: int, kernel: int, stride: int, activation: Activation) -> Pure:
    """The adapter behind an encoder whose blocks have these sizes."""
    sizes = replace(sizes, positions="none")
    return Pure(lambda rngs: ConformerAdapter(sizes, layers, kernel, stride, activation, rngs))


def fewer(frame_lengths: jax.Array, kernel: int, stride: int) -> jax.Array:
    """Returns the number of frames after a layer, where kernel // 2 = stride // 2."""
    return (frame_lengths + 2 * (stride // 2) - kernel) // stride + 1
