"""Front-end of the released GMM-anchored JEPA (arXiv 2602.09040): waveform to 50 Hz frames.

Kept as released, faults included: it sees 10.4 s around a frame, and its adaptive attention cuts the time
axis into chunks, so that a frame depends on the padding of its batch.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.nn.linear import Linear

LEAK = 0.1
GAUSSIANS, CHUNKS = 4, 4


# Uniform within ±1/sqrt(fan-in), as the release draws its weights; its biases, drawn alike there, start at 0 here.
kernel_init = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def linear(inputs: int, outputs: int, rngs: nnx.Rngs) -> Linear:
    return Linear(inputs, outputs, kernel_init=kernel_init, rngs=rngs)


def conv(
    inputs: int,
    outputs: int,
    width: int,
    rngs: nnx.Rngs,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    bias: bool = True,
) -> nnx.Conv:
    """A convolution over time, `padding` zeros on both sides: (B, T, inputs) -> (B, T', outputs)."""
    return nnx.Conv(
        inputs,
        outputs,
        width,
        strides=stride,
        padding=[(padding, padding)],
        kernel_dilation=dilation,
        use_bias=bias,
        kernel_init=kernel_init,
        rngs=rngs,
    )


class Snake(nnx.Module):
    """x + sin²(ax) / a, with one learned frequency a per channel."""

    def __init__(self, channels: int):
        self.a = nnx.Param(jnp.zeros(channels))

    def __call__(self, x: jax.Array) -> jax.Array:
        a = jax.nn.softplus(self.a[...]) + 0.01
        return x + jnp.sin(a * x) ** 2 / a


class Residual(nnx.Module):
    """Three units of leaky ReLU, dilated convolution, leaky ReLU, convolution, each added to its input."""

    def __init__(self, channels: int, dilations: tuple[int, ...], rngs: nnx.Rngs):
        self.dilated = nnx.List([conv(channels, channels, 3, rngs, padding=d, dilation=d) for d in dilations])
        self.plain = nnx.List([conv(channels, channels, 3, rngs, padding=1) for _ in dilations])

    def __call__(self, x: jax.Array) -> jax.Array:
        for dilated, plain in zip(self.dilated, self.plain, strict=True):
            x = x + plain(jax.nn.leaky_relu(dilated(jax.nn.leaky_relu(x, LEAK)), LEAK))
        return x


class GaussianHead(nnx.Module):
    """Weighs frames by the product of Gaussians around each channel's mean over time."""

    def __init__(self, rngs: nnx.Rngs):
        self.mean_offsets = nnx.Param(jnp.zeros(GAUSSIANS))
        self.widths = nnx.Param(jnp.exp(jax.random.normal(rngs.params(), (GAUSSIANS,))))

    def __call__(self, x: jax.Array) -> jax.Array:  # (B, T, channels)
        mean = x.mean(1, keepdims=True)
        variance = ((x - mean) ** 2).sum(1, keepdims=True) / max(x.shape[1] - 1, 1) + 1e-8
        distance = (x - mean)[..., None] - self.mean_offsets[...]  # (B, T, channels, Gaussians)
        distance = jnp.clip(distance / jnp.sqrt(variance)[..., None], -10, 10)
        spread = jnp.clip(self.widths[...], 0.01, 10) ** 2 + 1e-8
        # The Gaussians' own constants do not depend on time: the softmax over time cancels them.
        return x * jax.nn.softmax(-(distance**2 / (2 * spread)).sum(-1), axis=1)


class AdaptiveAttention(nnx.Module):
    """Adds to each quarter of the time axis what its own Gaussian head makes of it."""

    def __init__(self, rngs: nnx.Rngs):
        self.heads = nnx.List([GaussianHead(rngs) for _ in range(CHUNKS)])

    def __call__(self, x: jax.Array) -> jax.Array:  # (B, T, channels)
        step = x.shape[1] // CHUNKS
        borders = [step, 2 * step, 3 * step]  # the last chunk takes the rest
        chunks = zip(self.heads, jnp.split(x, borders, axis=1), strict=True)
        return x + jnp.concatenate([head(chunk) for head, chunk in chunks if chunk.shape[1]], axis=1)


class Stage(nnx.Module):
    """Strided convolution, snake, residual blocks; block i has dilations 1, 3^i and 5^i."""

    def __init__(self, inputs: int, outputs: int, stride: int, res_blocks: int, adaptive: bool, rngs: nnx.Rngs):
        self.conv = conv(inputs, outputs, 2 * stride, rngs, stride=stride, padding=stride // 2)
        self.snake = Snake(outputs)
        self.res = nnx.List([Residual(outputs, (1, 3**i, 5**i), rngs) for i in range(res_blocks)])
        self.adaptive = AdaptiveAttention(rngs) if adaptive else None

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.snake(self.conv(x))
        for residual in self.res:
            x = residual(x)
        return x if self.adaptive is None else self.adaptive(x)
