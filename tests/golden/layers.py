"""Layers of the released models in float64 NumPy, and state dicts that fill themselves."""

import math

import numpy as np
from scipy.special import erf, softmax


class Weights(dict):
    """A state dict that fills itself: name -> float64 values that float16 holds exactly."""

    def __init__(self, seed: int):
        super().__init__()
        self.random = np.random.default_rng(seed)

    def draw(self, name: str, *shape: int, spread: float = 1.0, mean: float = 0.0) -> None:
        values = mean + spread * self.random.standard_normal(shape)
        self[name] = values.astype(np.float16).astype(np.float64)

    def dense(self, name: str, *shape: int, bias: bool = True, gain: float = 0.5) -> None:
        """(out, in) or (out, in, kernel)"""
        self.draw(f"{name}.weight", *shape, spread=gain * math.prod(shape[1:]) ** -0.5)
        if bias:
            self.draw(f"{name}.bias", shape[0], spread=0.1)

    def norm(self, name: str, width: int) -> None:
        self.draw(f"{name}.weight", width, spread=0.2, mean=1.0)
        self.draw(f"{name}.bias", width, spread=0.1)


def gelu(x):
    return x * 0.5 * (1 + erf(x / math.sqrt(2)))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def leaky(x):
    return np.where(x > 0, x, 0.1 * x)


def conv(w, name, x, stride=1, padding=0, dilation=1):
    """x (B, C, T); a kernel of one input to each output is depthwise."""
    kernel = w[f"{name}.weight"]
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding)))
    starts = np.arange(0, x.shape[2] - dilation * (kernel.shape[2] - 1), stride)
    windows = x[:, :, starts[:, None] + dilation * np.arange(kernel.shape[2])]  # (B, C, T, kernel)
    depthwise = kernel.shape[1] < x.shape[1]
    y = np.einsum("bctk,cok->bct" if depthwise else "bctk,ock->bot", windows, kernel)
    return y + w[f"{name}.bias"][:, None] if f"{name}.bias" in w else y


def dense(w, name, x):
    """x (..., in)"""
    y = x @ w[f"{name}.weight"].T
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def clip_norm(w, name, x):
    """Group norm of one group: x (B, C, T)"""
    mean, variance = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    y = (x - mean) / np.sqrt(variance + 1e-5)
    return y * w[f"{name}.weight"][:, None] + w[f"{name}.bias"][:, None]


def layer_norm(w, name, x):
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return y * w[f"{name}.weight"] + w[f"{name}.bias"]


def position_table(w, frames):
    """The relative-position values, (H, T, T) for query i and key j."""
    table = w["rel_pos_bias.rel_pos_embed.weight"]
    d = np.zeros((table.shape[1], frames, frames))
    for i in range(frames):
        for j in range(frames):
            d[:, i, j] = table[bucket(j - i)]
    return d


def bucket(offset):
    distance = abs(offset)
    if distance >= 80:
        distance = min(80 + int(80 * math.log(distance / 80) / math.log(800 / 80)), 159)
    return distance + (160 if offset >= 0 else 0)


def split(x, heads):
    """(B, T, D) -> (B, H, T, D/H)"""
    return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def attend(q, k, v, bias):
    p = softmax(q @ k.transpose(0, 1, 3, 2) / math.sqrt(q.shape[-1]) + bias, axis=-1)
    return (p @ v).transpose(0, 2, 1, 3).reshape(q.shape[0], q.shape[2], -1)


def adaptive(w, name, x):
    """Product of Gaussians around the mean over time, in four chunks of the time axis: x (B, C, T)"""
    size, parts = x.shape[2] // 4, []
    for h in range(4):
        part = x[:, :, h * size : (h + 1) * size if h < 3 else None]
        mean = part.mean(2, keepdims=True)
        deviation = np.sqrt(part.var(2, ddof=1, keepdims=True) + 1e-8)
        logs = 0
        for offset, c in zip(w[f"{name}.{h}.mean_offsets"], w[f"{name}.{h}.c"], strict=True):
            c = min(max(c, 0.01), 10)
            y = np.clip((part - mean - offset) / deviation, -10, 10)
            logs = logs - y**2 / (2 * c**2) - math.log(c * math.sqrt(2 * math.pi))
        parts.append(part + part * softmax(logs, axis=2))
    return np.concatenate(parts, 2)
