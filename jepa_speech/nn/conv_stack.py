"""The seven convolutions of wav2vec 2.0's front-end, each followed by an optional norm and GELU."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.nn.convolution import of_windows, strided, windows
from jepa_speech.nn.gelu import gelu
from jepa_speech.nn.layer_norm import LayerNorm
from jepa_speech.nn.norm_kernel import Options, fits, frames_of, norm_windows
from jepa_speech.nn.row_random import valid
from jepa_speech.platform import on_tpu

# Kernel and stride (arXiv 2006.11477, section 4.2): stride 320, field 400.
CONVOLUTIONS = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))
EPSILON = 1e-5  # of every normalisation in the published models


class TimeNorm(nnx.Module):
    """Each channel of a row to mean 0 and variance 1 over its valid frames (a group norm of one channel a group).

    So a padded row gives what the published model gives for that recording alone. The published code includes padding
    in the statistics, but trains on batches without padding. Masked frames are included, there and here.
    """

    def __init__(self, width: int):
        self.scale = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width))

    def __call__(self, x: jax.Array, inside: jax.Array) -> jax.Array:
        """x (B, T, C), inside (B, T) False where padded -> (B, T, C)."""
        wide, weight = x.astype(jnp.float32), inside[..., None]
        count = jnp.maximum(weight.sum(1, keepdims=True), 1)
        wide = wide - (wide * weight).sum(1, keepdims=True) / count
        variance = (jnp.square(wide) * weight).sum(1, keepdims=True) / count
        wide = wide * jax.lax.rsqrt(variance + EPSILON)
        return (wide * self.scale[...] + self.bias[...]).astype(x.dtype)

    def affine(self, x: jax.Array, inside: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The norm as a scale and a bias (B, C). One pass over x is exact enough: their mean is small."""
        wide, weight = x.astype(jnp.float32), inside[..., None]
        count = jnp.maximum(inside.sum(1, keepdims=True), 1)
        mean = (wide * weight).sum(1) / count
        variance = jnp.maximum((jnp.square(wide) * weight).sum(1) / count - jnp.square(mean), 0)
        scale = self.scale[...] * jax.lax.rsqrt(variance + EPSILON)
        return scale, self.bias[...] - mean * scale


Norm = TimeNorm | LayerNorm


def convolutions(
    channels: int, bias: bool, norm: Callable[[], Norm] | None, dtype: jnp.dtype, rngs: nnx.Rngs
) -> tuple[nnx.List[nnx.Conv], nnx.List[Norm]]:
    """Returns the seven convolutions, and a norm() for each."""
    made: nnx.List[nnx.Conv] = nnx.List()
    norms: nnx.List[Norm] = nnx.List()
    shared: dict[str, Any] = {"padding": "VALID", "use_bias": bias, "kernel_init": nnx.initializers.he_normal()}
    for i, (kernel, stride) in enumerate(CONVOLUTIONS):
        inputs = 1 if i == 0 else channels
        made.append(nnx.Conv(inputs, channels, kernel, strides=stride, dtype=dtype, rngs=rngs, **shared))
        if norm is not None:
            norms.append(norm())
    return made, norms


def convolve(
    wave: jax.Array, lengths: jax.Array | None, convolutions: Sequence[nnx.Conv], norms: Sequence[Norm]
) -> jax.Array:
    """wave (B, S), lengths (B,) samples, for TimeNorm -> (B, T, C). norms: of each convolution, or of the first."""
    behind = [*norms, *[None] * (len(convolutions) - len(norms))]
    if fits(convolutions[0].dtype, convolutions[0].out_features):
        return with_windows(wave, lengths, convolutions, behind)
    following = [*convolutions[1:], None]
    # Of two convolutions, only the output is kept: the backward pass computes what lies between them again.
    again = jax.checkpoint if on_tpu() else lambda function: function
    x = strided(convolutions[0], wave[..., None])
    for norm, convolution in zip(behind, following, strict=True):
        x = again(partial(normed_convolved, norm, convolution, lengths))(x)
    return x


def normed_convolved(
    norm: Norm | None, convolution: nnx.Conv | None, lengths: jax.Array | None, x: jax.Array
) -> jax.Array:
    """GELU(norm(x)), and its convolution: x (B, S, C) -> (B, T, C)."""
    if isinstance(norm, TimeNorm):
        x = norm(x, first_inside(lengths, x.shape[1]))
    elif norm is not None:
        x = norm(x)
    x = gelu(x)
    return x if convolution is None else strided(convolution, x)


def with_windows(
    wave: jax.Array, lengths: jax.Array | None, convolutions: Sequence[nnx.Conv], norms: Sequence[Norm | None]
) -> jax.Array:
    """The same as `convolve`, with norm and GELU between two convolutions as one kernel.

    The number of frames is padded to a multiple of 8. Otherwise XLA pads by copying before each gradient product.
    """
    (size, stride), *following = CONVOLUTIONS
    x = of_windows(convolutions[0], windows(wave[..., None].astype(convolutions[0].dtype), size, stride, 8))
    frames = (wave.shape[1] - size) // stride + 1
    for norm, convolution, (size, stride) in zip(norms[:-1], convolutions[1:], following, strict=True):
        options = Options(gelu=True, size=size, stride=stride, samples=frames, multiple=8)
        x, frames = of_windows(convolution, normed_gelu(norm, x, lengths, options)), frames_of(options)
    return normed_gelu(norms[-1], x, lengths, Options(gelu=True, samples=frames))[:, :, 0]


def normed_gelu(norm: Norm | None, x: jax.Array, lengths: jax.Array | None, options: Options) -> jax.Array:
    """Windows (B, T, size, C) of GELU(norm(x)), x (B, S, C)."""
    scale, bias = jnp.ones(x.shape[-1]), jnp.zeros(x.shape[-1])
    if isinstance(norm, TimeNorm):
        scale, bias = norm.affine(x, first_inside(lengths, x.shape[1]))
    elif norm is not None:
        scale, bias, options = norm.scale[...], norm.bias[...], options._replace(epsilon=norm.epsilon)
    return norm_windows(x, scale, bias, options)


def first_inside(lengths: jax.Array | None, size: int) -> jax.Array:
    """True at frames of the first convolution that read no padding: lengths (B,) samples -> (B, size)."""
    assert lengths is not None  # a TimeNorm counts valid frames
    kernel, stride = CONVOLUTIONS[0]
    return valid((lengths - kernel) // stride + 1, size)
