"""Positions from convolutions over time: one wide one, of plain or scaled input, or a stack of narrow ones."""

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.nn.conv_stack import EPSILON
from jepa_speech.nn.convolution import grouped
from jepa_speech.nn.gelu import gelu

# torch's default for convolutions and linear layers: uniform in ±1/sqrt(fan in).
uniform_init = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class ConvPositions(nnx.Module):
    """GELU of one grouped convolution (arXiv 2006.11477, section 2), weight-normalised tap by tap.

    kernel[k] = g[k] v[k] / ‖v[k]‖ (arXiv 1602.07868, eq. 2), the norm over both channel axes of one tap: trained in
    these parameters as the published models are, for Adam's steps depend on them.
    """

    def __init__(self, width: int, kernel: int, groups: int, rngs: nnx.Rngs):
        self.groups = groups
        v = jax.random.normal(rngs.params(), (kernel, width // groups, width)) * (4 / (kernel * width)) ** 0.5
        self.v = nnx.Param(v)
        self.g = nnx.Param(jnp.sqrt(jnp.square(v).sum((1, 2))))  # (K,)
        self.bias = nnx.Param(jnp.zeros(width))

    def __call__(self, x: jax.Array, inside: jax.Array) -> jax.Array:
        """x (B, T, D), inside (B, T) False where padded -> what to add to x, (B, T, D)."""
        v = self.v[...]
        kernel = v * (self.g[...] / jnp.sqrt(jnp.square(v).sum((1, 2))))[:, None, None]
        x = jnp.where(inside[..., None], x, 0)  # no padding is read
        return gelu(grouped(x, kernel, self.groups) + self.bias[...].astype(x.dtype))


class ScaledPositions(nnx.Module):
    """GELU of one grouped convolution of x scaled and shifted per channel: HuBERT's with `conv_pos_batch_norm`.

    scale and shift are the batch norm at inference, its running statistics folded in. Training continues with these two
    vectors as parameters; no statistics of batches are taken.
    """

    def __init__(self, width: int, kernel: int, groups: int, rngs: nnx.Rngs):
        self.groups = groups
        self.scale = nnx.Param(jnp.ones(width))
        self.shift = nnx.Param(jnp.zeros(width))
        self.kernel = nnx.Param(uniform_init(rngs.params(), (kernel, width // groups, width)))
        self.bias = nnx.Param(jnp.zeros(width))

    def __call__(self, x: jax.Array, inside: jax.Array) -> jax.Array:
        """x (B, T, D), inside (B, T) False where padded -> what to add to x, (B, T, D).

        Padding is set to 0 after the scaling, so a padded row gives what the recording alone gives. The published code
        sets it to 0 before. The shift then makes it non-zero, and it reaches the last frames of a padded row.
        """
        x = x * self.scale[...].astype(x.dtype) + self.shift[...].astype(x.dtype)
        x = jnp.where(inside[..., None], x, 0)
        return gelu(grouped(x, self.kernel[...], self.groups) + self.bias[...].astype(x.dtype))


class StackedPositions(nnx.Module):
    """data2vec's (arXiv 2202.03555, section 3.1): `depth` grouped convolutions that share out the kernel's frames,
    each followed by a layer norm without gain and GELU.
    """

    def __init__(self, width: int, kernel: int, groups: int, depth: int, rngs: nnx.Rngs):
        self.groups = groups
        shape = (max(3, kernel // depth), width // groups, width)
        self.kernels = nnx.List([nnx.Param(uniform_init(rngs.params(), shape)) for _ in range(depth)])
        self.biases = nnx.List([nnx.Param(jnp.zeros(width)) for _ in range(depth)])

    def __call__(self, x: jax.Array, inside: jax.Array) -> jax.Array:
        """x (B, T, D), inside (B, T) False where padded -> what to add to x, (B, T, D).

        Padding is set to 0 before each convolution. The published code does so only before the first, so padding
        reaches the last frames of a padded row.
        """
        for kernel, bias in zip(self.kernels, self.biases, strict=True):
            x = convolved(x, inside, kernel[...], bias[...], self.groups)
        return x


def convolved(x: jax.Array, inside: jax.Array, kernel: jax.Array, bias: jax.Array, groups: int) -> jax.Array:
    """Grouped convolution, layer norm without gain, GELU: x (B, T, C), kernel (K, C/groups, D), bias (D,) -> (B, T, D).

    inside (B, T): False where padded; no padding is read.
    """
    x = grouped(jnp.where(inside[..., None], x, 0), kernel, groups) + bias.astype(x.dtype)
    return gelu(jax.nn.standardize(x.astype(jnp.float32), epsilon=EPSILON).astype(x.dtype))
