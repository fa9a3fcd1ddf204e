"""Convolutions over time, on a GPU as products of matrices.

There, cuDNN's convolutions of one dimension are slow, those of one input channel and those of many groups above all,
and XLA tries its ways of computing them for minutes before the first step. Elsewhere they are left to XLA.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jepa_speech.nn.gpu import on_gpu

BLOCK = 16  # output frames that one product of `grouped_product` makes


def strided(convolution: nnx.Conv, x: jax.Array) -> jax.Array:
    """What convolution(x) is, without padding: x (B, S, C) -> (B, T, D)."""
    if not on_gpu():
        return convolution(x)
    dtype, stride = convolution.dtype, int(np.ravel(convolution.strides)[0])
    x = strided_product(x.astype(dtype), convolution.kernel[...].astype(dtype), stride)
    return x if convolution.bias is None else x + convolution.bias[...].astype(dtype)


def strided_product(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """x (B, S, C), kernel (K, C, D) -> (B, T, D), T = floor((S - K) / stride) + 1, as one product.

    A window of K frames is read from strides that lie side by side: K frames need ceil(K / stride) of them.
    """
    size, channels, width = kernel.shape
    frames, reach = (x.shape[1] - size) // stride + 1, -(-size // stride)
    needed = (frames + reach - 1) * stride
    x = jnp.pad(x, ((0, 0), (0, max(0, needed - x.shape[1])), (0, 0)))[:, :needed]
    x = x.reshape(len(x), -1, stride * channels)
    taps = [min(stride, size - i * stride) * channels for i in range(reach)]
    windows = jnp.concatenate([x[:, i : i + frames, :n] for i, n in enumerate(taps)], -1)  # (B, T, K C)
    out = windows.reshape(len(x) * frames, -1) @ kernel.reshape(-1, width)  # over rows: see linear.py
    return out.reshape(len(x), frames, width)


def grouped(x: jax.Array, kernel: jax.Array, groups: int) -> jax.Array:
    """Convolution over time that keeps the length: x (B, T, D), kernel (K, D/groups, D) -> (B, T, D).

    Frame t sees K//2 frames before it; an even kernel sees one less behind it.
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
    """As one product for each group: of blocks of frames, with their neighbours, and a banded matrix of the taps.

    A block of 16 frames reads 16 + K - 1, rounded up to whole blocks: for K = 128 an eighth of the work is zeros.
    """
    rows, frames, width = x.shape
    size, channels = kernel.shape[:2]
    blocks, reach = -(-frames // BLOCK), -(-(BLOCK + size - 1) // BLOCK)
    before = size // 2
    x = jnp.pad(x, ((0, 0), (before, (blocks + reach - 1) * BLOCK - before - frames), (0, 0)))
    x = x.reshape(rows, -1, BLOCK, groups, channels)
    windows = jnp.concatenate([x[:, i : i + blocks] for i in range(reach)], 2)  # (B, N, reach BLOCK, G, C)
    taps = kernel.reshape(size, channels, groups, channels)
    room = reach * BLOCK - size
    band = jnp.stack([jnp.pad(taps, ((u, room - u), (0, 0), (0, 0), (0, 0))) for u in range(BLOCK)], 3)
    out = jnp.einsum("bnsgi,siguo->bnugo", windows, band)  # band (reach BLOCK, C, G, BLOCK, C)
    return out.reshape(rows, -1, width)[:, :frames]
