"""The decoder of data2vec 2.0 (arXiv 2212.07525, section 3.2): convolutions over all frames, masked ones included."""

from collections.abc import Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.nn.conv_positions import convolved, uniform_init
from jepa_speech.nn.linear import Linear


class ConvDecoder(nnx.Module):
    """Grouped convolutions, each followed by a layer norm without gain and GELU, with residuals; then a linear map.

    hidden: the width of the output of each convolution. The first has no residual, unless its input has this width.
    """

    def __init__(self, width: int, hidden: Sequence[int], kernel: int, groups: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.groups, self.dtype = groups, dtype
        widths = [width, *hidden]
        shapes = [(kernel, a // groups, b) for a, b in pairwise(widths)]
        self.kernels = nnx.List([nnx.Param(uniform_init(rngs.params(), shape)) for shape in shapes])
        self.biases = nnx.List([nnx.Param(jnp.zeros(shape[-1])) for shape in shapes])
        self.output = Linear(widths[-1], width, kernel_init=uniform_init, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, inside: jax.Array) -> jax.Array:
        """x (B, T, D), inside (B, T) False where padded -> predictions (B, T, D)."""
        x = x.astype(self.dtype)
        for kernel, bias in zip(self.kernels, self.biases, strict=True):
            added = convolved(x, inside, kernel[...], bias[...], self.groups)
            x = x + added if x.shape == added.shape else added
        return self.output(x)
