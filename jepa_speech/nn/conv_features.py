"""The convolutional front-end as published: wav2vec 2.0's Base (`group`) and Large (`layer`)."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.nn.conv_stack import EPSILON, TimeNorm, convolutions, convolve
from jepa_speech.nn.layer_norm import LayerNorm


class ConvFeatures(nnx.Module):
    """Seven convolutions with GELU, then layer norm (arXiv 2006.11477, section 2 and appendix).

    norm: `group` normalises the first convolution alone, over time; `layer` every one of them, over channels.
    epsilon: of the last layer norm; None leaves it out.
    gradient_scale: of all gradients that go back into the convolutions, the energy's included.
    """

    def __init__(
        self,
        channels: int,
        norm: Literal["group", "layer"],
        bias: bool,
        gradient_scale: float,
        epsilon: float | None,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.gradient_scale = gradient_scale
        layer = partial(LayerNorm, channels, dtype, rngs, EPSILON) if norm == "layer" else None
        self.convolutions, self.norms = convolutions(channels, bias, layer, dtype, rngs)
        if norm == "group":
            self.norms.append(TimeNorm(channels))
        self.final_norm = None if epsilon is None else LayerNorm(channels, dtype, rngs, epsilon)

    def __call__(self, wave: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """wave (B, S), lengths (B,) samples -> features (B, T, C), and energy (B, T): their mean square before the
        last norm, float32.
        """
        x = convolve(wave, lengths, self.convolutions, self.norms)
        x = scale_gradient(x, self.gradient_scale)  # (B, T, C)
        energy = jnp.square(x.astype(jnp.float32)).mean(-1)
        return x if self.final_norm is None else self.final_norm(x), energy


def scale_gradient(x: jax.Array, scale: float) -> jax.Array:
    """x, bit for bit; its gradient is scaled."""
    still = jax.lax.stop_gradient(x)
    return x if scale == 1 else still + scale * (x - still)
