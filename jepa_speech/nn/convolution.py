"""Convolutions over time, on a GPU as products of matrices.

On a GPU, cuDNN's one-dimensional convolutions are slow, especially with one input channel or many groups, and XLA takes
minutes to choose algorithms for them before the first step. On other devices XLA computes them.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jepa_speech.nn.linear import by_frames
from jepa_speech.platform import on_gpu

BLOCK = 16  # output frames that one product of `grouped_product` makes


def strided(convolution: nnx.Conv, x: jax.Array) -> jax.Array:
    """Returns convolution(x), without padding: x (B, S, C) -> (B, T, D)."""
    if not on_gpu():
        return convolution(x)
    return of_windows(convolution, windows(x.astype(convolution.dtype), *reach(convolution)))


def of_windows(convolution: nnx.Conv, x: jax.Array) -> jax.Array:
    """Returns the convolution of windows (B, T, K, C) of its input, (B, T, D), as one product."""
    kernel = convolution.kernel[...].astype(convolution.dtype)  # (K, C, D)
    x = by_frames(x.reshape(*x.shape[:2], -1), kernel.reshape(-1, kernel.shape[-1]))
    return x if convolution.bias is None else x + convolution.bias[...].astype(x.dtype)


def windows(x: jax.Array, size: int, stride: int, multiple: int = 1) -> jax.Array:
    """x (B, S, C) -> (B, T, size, C), T = floor((S - size) / stride) + 1: frame t sees [stride t, stride t + size).

    multiple: T is rounded up to a multiple of it, and x is padded with zeros. A window is read as ceil(size / stride)
    adjacent blocks of `stride` frames.
    """
    rows, samples, channels = x.shape
    frames, strides = -(-((samples - size) // stride + 1) // multiple) * multiple, -(-size // stride)
    needed = (frames + strides - 1) * stride
    x = jnp.pad(x, ((0, 0), (0, max(0, needed - samples)), (0, 0)))[:, :needed]
    x = x.reshape(rows, -1, stride * channels)
    taps = [min(stride, size - i * stride) * channels for i in range(strides)]
    found = jnp.concatenate([x[:, i : i + frames, :n] for i, n in enumerate(taps)], -1)
    return found.reshape(rows, frames, size, channels)


def reach(convolution: nnx.Conv) -> tuple[int, int]:
    """Kernel and stride."""
    return convolution.kernel.shape[0], int(np.asarray(convolution.strides).flat[0])


def grouped(x: jax.Array, kernel: jax.Array, groups: int) -> jax.Array:
    """Convolution over time that keeps the length: x (B, T, C), kernel (K, C/groups, D) -> (B, T, D).

    Frame t sees K//2 frames before it, and as many after it; with an even kernel one fewer.
    """
    if on_gpu():
        return grouped_product(x, kernel.astype(x.dtype), groups)
    size = kernel.shape[0]
    return jax.lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        window_strides=(1,),
        padding=[(size // 2, size - 1 - size // 2)],
        dimension_numbers=("NWC", "WIO", "NWC"),
        feature_group_count=groups,
    )


def grouped_product(x: jax.Array, kernel: jax.Array, groups: int) -> jax.Array:
    """The same as one product for each group: blocks of frames and their neighbours, times a banded matrix of the taps.

    A block of 16 frames reads 16 + K - 1, rounded up to whole blocks: for K = 128 an eighth of the work is zeros.
    """
    rows, frames, _ = x.shape
    size, channels, width = kernel.shape
    blocks, reach = -(-frames // BLOCK), -(-(BLOCK + size - 1) // BLOCK)
    before = size // 2
    x = jnp.pad(x, ((0, 0), (before, (blocks + reach - 1) * BLOCK - before - frames), (0, 0)))
    # Groups in front, before what is small becomes large: then each copy writes what a product reads.
    x = jnp.moveaxis(x.reshape(rows, -1, BLOCK, groups, channels), 3, 0)
    x = jax.lax.optimization_barrier(x).reshape(groups, rows, -1, BLOCK * channels)
    seen = jnp.concatenate([x[:, :, i : i + blocks] for i in range(reach)], -1)  # (G, B, N, reach BLOCK C)
    taps = jax.lax.optimization_barrier(jnp.moveaxis(kernel.reshape(size, channels, groups, width // groups), 2, 0))
    room = reach * BLOCK - size
    band = jnp.stack([jnp.pad(taps, ((0, 0), (u, room - u), (0, 0), (0, 0))) for u in range(BLOCK)], 3)
    band = band.reshape(groups, reach * BLOCK * channels, BLOCK * width // groups)
    out = jax.lax.optimization_barrier(seen.reshape(groups, rows * blocks, -1) @ band)
    out = jnp.moveaxis(out.reshape(groups, rows, blocks, BLOCK, width // groups), 0, 3)
    return out.reshape(rows, -1, width)[:, :frames]
