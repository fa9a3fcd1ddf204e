"""The released GMM-anchored JEPA (arXiv 2602.09040) in PyTorch, written from jepa_speech/nn/released*.py.

Modules and parameters have the names that they have there. Relative positions on, adaptive attention off, one table of
positions for the encoder and one for the predictor.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

KERNEL, BUCKETS, MAX_DISTANCE, LAYER_HEADS, LEAK = 31, 320, 800, 4, 0.1


@dataclass(frozen=True)
class Sizes:
    """The published ones. sdpa: attention by torch's own function, the bias as its mask, or written out."""

    channels: tuple[int, ...] = (32, 64, 128, 256)
    strides: tuple[int, ...] = (8, 8, 5)
    width: int = 512
    res_blocks: int = 4
    blocks: int = 4
    heads: int = 32
    clusters: int = 1024
    dropout: float = 0.1
    sdpa: bool = True


class Snake(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.a = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, C, T)
        a = (F.softplus(self.a) + 0.01)[:, None]
        return x + torch.sin(a * x).square() / a


class Residual(nn.Module):
    def __init__(self, channels: int, dilations: tuple[int, ...]):
        super().__init__()
        self.dilated = nn.ModuleList([nn.Conv1d(channels, channels, 3, padding=d, dilation=d) for d in dilations])
        self.plain = nn.ModuleList([nn.Conv1d(channels, channels, 3, padding=1) for _ in dilations])

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, C, T)
        for dilated, plain in zip(self.dilated, self.plain, strict=True):
            x = x + plain(F.leaky_relu(dilated(F.leaky_relu(x, LEAK)), LEAK))
        return x


class Stage(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, res_blocks: int):
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, 2 * stride, stride, stride // 2)
        self.snake = Snake(outputs)
        self.res = nn.ModuleList([Residual(outputs, (1, 3**i, 5**i)) for i in range(res_blocks)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, C, T)
        x = self.snake(self.conv(x))
        for residual in self.res:
            x = residual(x)
        return x


class FeedForward(nn.Module):
    def __init__(self, width: int, rate: float):
        super().__init__()
        self.rate = rate
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.dropout(F.gelu(self.up(x)), self.rate, self.training)
        return F.dropout(self.down(x), self.rate, self.training)


class ConvModule(nn.Module):
    def __init__(self, width: int, rate: float):
        super().__init__()
        self.rate = rate
        self.norm_in, self.norm_out = nn.GroupNorm(1, width), nn.GroupNorm(1, width)
        self.gate = nn.Conv1d(width, 2 * width, 1)
        self.depthwise = nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2, groups=width)
        self.out = nn.Conv1d(width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, T, D)
        x = F.glu(self.gate(self.norm_in(x.transpose(1, 2))), dim=1)
        x = self.out(F.silu(self.norm_out(self.depthwise(x))))
        return F.dropout(x, self.rate, self.training).transpose(1, 2)


class RelativePositions(nn.Module):
    """Gated by the query: bias = d + u d + (1 - u) s r d."""

    def __init__(self, heads: int, head_width: int):
        super().__init__()
        self.table = nn.Parameter(torch.randn(BUCKETS, heads))
        self.update = nn.Parameter(0.02 * torch.randn(heads, head_width))
        self.reset = nn.Parameter(0.02 * torch.randn(heads, head_width))
        self.scale = nn.Parameter(torch.ones(heads))

    def forward(self, query: torch.Tensor) -> torch.Tensor:
        """query (B, H, T, D/H) -> bias (B, H, T, T)."""
        time = torch.arange(query.shape[2], device=query.device)
        d = self.table[bucket(time - time[:, None])].permute(2, 0, 1)  # (H, T, T)
        update = torch.sigmoid((query * self.update[:, None]).sum(-1))  # (B, H, T)
        reset = torch.sigmoid((query * self.reset[:, None]).sum(-1))
        gate = 1 + update + (1 - update) * self.scale[:, None] * reset
        return gate[..., None] * d


def bucket(offset: torch.Tensor) -> torch.Tensor:
    """160 a sign: exact below 80 frames, logarithmic up to 800."""
    half, exact = BUCKETS // 2, BUCKETS // 4
    distance = offset.abs()
    ratio = torch.log(distance.clamp(min=1) / exact) / math.log(MAX_DISTANCE / exact)
    far = (exact + (ratio * (half - exact)).int()).clamp(max=half - 1)
    return torch.where(distance < exact, distance, far) + half * (offset >= 0)


class Block(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        width, self.sizes = sizes.width, sizes
        self.ff1, self.ff2 = FeedForward(width, sizes.dropout), FeedForward(width, sizes.dropout)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.convolution = ConvModule(width, sizes.dropout)

    def forward(self, x: torch.Tensor, positions: RelativePositions) -> torch.Tensor:  # (B, T, D)
        x = x + 0.5 * self.ff1(x)
        x = x + self.attend(x, positions)
        x = x + self.convolution(x)
        return x + 0.5 * self.ff2(x)

    def attend(self, x: torch.Tensor, positions: RelativePositions) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.sizes.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind()  # (B, H, T, D/H)
        bias, rate = positions(query), self.sizes.dropout if self.training else 0.0
        if self.sizes.sdpa:
            mixed = F.scaled_dot_product_attention(query, key, value, bias.to(query.dtype), rate)
        else:
            logits = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1]) + bias
            mixed = F.dropout(logits.softmax(-1), rate) @ value
        return self.out(mixed.transpose(1, 2).flatten(2))


class LayerAttention(nn.Module):
    """One weight per layer and row; value and output are never used, as in the release."""

    def __init__(self, width: int):
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))

    def forward(self, layers: list[torch.Tensor]) -> torch.Tensor:
        means = torch.stack([layer.mean(1) for layer in layers], 1)  # (B, layers, D)
        query = self.query(means[:, -1]).unflatten(-1, (LAYER_HEADS, -1))
        key = self.key(means).unflatten(-1, (LAYER_HEADS, -1))
        logits = torch.einsum("bhd,blhd->bhl", query, key) / math.sqrt(query.shape[-1])
        weights = logits.softmax(-1).mean(1)  # (B, layers)
        return sum(weights[:, i, None, None] * layer for i, layer in enumerate(layers))


class Encoder(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        self.input_conv = nn.Conv1d(1, sizes.channels[0], 7, padding=3)
        stages = zip(sizes.channels, sizes.channels[1:], sizes.strides, strict=False)
        self.stages = nn.ModuleList([Stage(*stage, sizes.res_blocks) for stage in stages])
        self.projection = nn.Conv1d(sizes.channels[-1], sizes.width, 1)
        self.positions = RelativePositions(sizes.heads, sizes.width // sizes.heads)
        self.blocks = nn.ModuleList([Block(sizes) for _ in range(sizes.blocks)])
        self.layer_attention = LayerAttention(sizes.width)

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        """wave (B, S) -> z (B, T, D), T = floor((S - 400) / 320) + 1."""
        samples = 320 * (frames(wave.shape[1]) + 1)
        x = F.pad(wave, (0, samples - wave.shape[1]))[:, None]  # cuts where that is negative
        x = self.input_conv(x)
        for stage in self.stages:
            x = stage(x)
        layers = [self.projection(x).transpose(1, 2)]
        for block in self.blocks:
            layers.append(block(layers[-1], self.positions))
        return self.layer_attention(layers)


class Predictor(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        self.mask_token = nn.Parameter(0.02 * torch.randn(sizes.width))
        self.input, self.output = nn.Linear(sizes.width, sizes.width), nn.Linear(sizes.width, sizes.width)
        self.positions = RelativePositions(sizes.heads, sizes.width // sizes.heads)
        self.block = Block(sizes)

    def forward(self, z: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """z (B, T, D), mask (B, T) True where hidden -> predicted latents (B, T, D)."""
        x = torch.where(mask[..., None], self.mask_token.to(z.dtype), z)
        return self.output(self.block(F.gelu(self.input(x)), self.positions))


class HeadBlock(nn.Module):
    def __init__(self, width: int, rate: float):
        super().__init__()
        self.rate, self.norm = rate, nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.dropout(F.gelu(self.up(self.norm(x))), self.rate, self.training)
        return F.dropout(self.down(x), self.rate, self.training)


class Head(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        width = 2 * sizes.width
        self.input, self.input_norm = nn.Linear(sizes.width, width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList([HeadBlock(width, sizes.dropout) for _ in range(3)])
        self.output_norm, self.output = nn.LayerNorm(width), nn.Linear(width, sizes.clusters)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """z (B, T, D) -> logits (B, T, K)."""
        x = F.gelu(self.input_norm(self.input(z)))
        for block in self.blocks:
            x = x + block(x)
        return self.output(self.output_norm(x))


def frames(samples: int) -> int:
    return (samples - 400) // 320 + 1
