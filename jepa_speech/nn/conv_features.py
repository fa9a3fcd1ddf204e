"""The convolutional front-end as published: wav2vec 2.0's Base (`group`) and Large (`layer`)."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.nn.convolution import strided
from jepa_speech.nn.frontends import CONVOLUTIONS
from jepa_speech.nn.rows import valid

EPSILON = 1e-5  # of every normalisation in these models


def layer_norm(width: int, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(width, epsilon=EPSILON, dtype=dtype, use_fast_variance=False, rngs=rngs)


class TimeNorm(nnx.Module):
    """Each channel of a row to mean 0 and variance 1 over its valid frames (a group norm of one channel a group).

    So a padded row gives what the published model gives for that recording alone; the published code counts padding
    in, and is trained on batches without any. Hidden samples do count, there as here.
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


class ConvFeatures(nnx.Module):
    """Seven convolutions with GELU, then layer norm (arXiv 2006.11477, section 2 and appendix).

    norm: `group` normalises the first convolution alone, over time; `layer` every one of them, over channels.
    gradient_scale: of all gradients that go back into the convolutions, the energy's included.
    """

    def __init__(
        self,
        channels: int,
        norm: Literal["group", "layer"],
        bias: bool,
        gradient_scale: float,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.gradient_scale = gradient_scale
        self.convolutions, self.norms = nnx.List(), nnx.List()
        for i, (kernel, stride) in enumerate(CONVOLUTIONS):
            self.convolutions.append(
                nnx.Conv(
                    1 if i == 0 else channels,
                    channels,
                    kernel,
                    strides=stride,
                    padding="VALID",
                    use_bias=bias,
                    kernel_init=nnx.initializers.he_normal(),
                    dtype=dtype,
                    rngs=rngs,
                )
            )
            if norm == "layer":
                self.norms.append(layer_norm(channels, dtype, rngs))
        if norm == "group":
            self.norms.append(TimeNorm(channels))
        self.final_norm = layer_norm(channels, dtype, rngs)

    def __call__(self, wave: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """wave (B, S), lengths (B,) samples -> features (B, T, C), and energy (B, T): their mean square before the
        last norm, float32.
        """
        x = wave[..., None]  # (B, S, 1)
        for i, convolution in enumerate(self.convolutions):
            x = strided(convolution, x)
            if i < len(self.norms):
                norm = self.norms[i]
                x = norm(x, first_inside(lengths, x.shape[1])) if isinstance(norm, TimeNorm) else norm(x)
            x = jax.nn.gelu(x, approximate=False)
        x = scale_gradient(x, self.gradient_scale)  # (B, T, C)
        return self.final_norm(x), jnp.square(x.astype(jnp.float32)).mean(-1)


def first_inside(lengths: jax.Array, size: int) -> jax.Array:
    """Which frames of the first convolution see no padding: lengths (B,) samples -> (B, size) bool."""
    kernel, stride = CONVOLUTIONS[0]
    return valid((lengths - kernel) // stride + 1, size)


def scale_gradient(x: jax.Array, scale: float) -> jax.Array:
    """x, bit for bit; its gradient is scaled."""
    still = jax.lax.stop_gradient(x)
    return x if scale == 1 else still + scale * (x - still)
