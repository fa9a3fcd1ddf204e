"""Layers against independent ones: conformer block, rotary positions, sinc filters, the QRNN's recurrence."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.signal
import torch
import transformers
from parity.oracles import TOLERANCE, Difference, randomised
from transformers.models.wav2vec2_conformer.modeling_wav2vec2_conformer import (
    Wav2Vec2ConformerEncoderLayer,
    Wav2Vec2ConformerRotaryPositionalEmbedding,
)

from jepa_speech.nn.blocks import ConformerBlock, rotate
from jepa_speech.nn.module import Params, Pure
from jepa_speech.nn.qrnn import linear_recurrence
from jepa_speech.nn.sinc import SincFilters


class ChannelNorm(torch.nn.LayerNorm):
    """Layer norm of (B, D, T) over channels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class Rotated(torch.nn.Module):
    """A linear map, its output rotated by the published block's own code."""

    def __init__(self, linear: torch.nn.Linear, attention: torch.nn.Module, positions: torch.nn.Module):
        super().__init__()
        self.linear = linear
        self.rotate = lambda x: attention._apply_rotary_embedding(x, positions(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rotate(self.linear(x))


def their_conformer(width: int, heads: int, hidden: int, kernel: int) -> torch.nn.Module:
    """The published block, with that swapped in which ours is meant to differ, and nothing else:

    - layer norm over channels after the depthwise convolution, for its batch norm: no statistic over time and rows;
    - queries and keys are rotated, not what they are projected from (arXiv 2104.09864, as in all later models);
    - the pointwise convolutions have biases;
    - norms add 1e-6 to variances, not 1e-5.
    """
    config = transformers.Wav2Vec2ConformerConfig(
        hidden_size=width,
        num_attention_heads=heads,
        intermediate_size=hidden,
        conv_depthwise_kernel_size=kernel,
        hidden_act="swish",
        position_embeddings_type=None,
        attn_implementation="eager",
    )

    def make() -> torch.nn.Module:
        block = Wav2Vec2ConformerEncoderLayer(config)
        conv, attention = block.conv_module, block.self_attn
        conv.activation, conv.batch_norm = torch.nn.SiLU(), ChannelNorm(width)
        for pointwise in (conv.pointwise_conv1, conv.pointwise_conv2):
            pointwise.bias = torch.nn.Parameter(torch.zeros(pointwise.out_channels))
        positions = Wav2Vec2ConformerRotaryPositionalEmbedding(config)
        attention.linear_q = Rotated(attention.linear_q, attention, positions)
        attention.linear_k = Rotated(attention.linear_k, attention, positions)
        for module in block.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.eps = 1e-6
        return block

    return randomised(make)


def our_params(block: torch.nn.Module) -> Params:
    """The same weights, as our block names them."""

    def linear(*modules: torch.nn.Module) -> Params:
        kernel = np.concatenate([module.weight.detach().numpy() for module in modules])
        bias = np.concatenate([module.bias.detach().numpy() for module in modules])
        return {"kernel": kernel.reshape(len(bias), -1).T, "bias": bias}

    def norm(module: torch.nn.Module) -> Params:
        return {"scale": module.weight.detach().numpy(), "bias": module.bias.detach().numpy()}

    attention, conv = block.self_attn, block.conv_module
    norms = (block.ffn1_layer_norm, block.self_attn_layer_norm, conv.layer_norm, block.ffn2_layer_norm)
    params = {
        "norms": dict(enumerate(map(norm, (*norms, block.final_layer_norm)))),
        "attention": {
            "qkv": linear(attention.linear_q.linear, attention.linear_k.linear, attention.linear_v),
            "out": linear(attention.linear_out),
        },
        "convolution": {
            "gate": linear(conv.pointwise_conv1),
            "taps": conv.depthwise_conv.weight.detach().numpy()[:, 0].T,
            "norm": norm(conv.batch_norm),
            "out": linear(conv.pointwise_conv2),
        },
    }
    for name, ff in (("ff1", block.ffn1), ("ff2", block.ffn2)):
        params[name] = {"up": linear(ff.intermediate_dense), "down": linear(ff.output_dense)}
    return jax.tree.map(jnp.asarray, params)


def conformer(width: int, heads: int, hidden: int, kernel: int, frames: int, label: str) -> list[Difference]:
    """Output, and the last feed-forward's share of it, of two rows without padding (`their_conformer`: the swaps)."""
    theirs = their_conformer(width, heads, hidden, kernel)
    ours = Pure(lambda rngs: ConformerBlock(width, heads, hidden, kernel, 0.0, jnp.dtype("float32"), rngs))
    x = np.random.default_rng(0).normal(size=(2, frames, width)).astype(np.float32)
    out, ff = jax.jit(ours.apply)(our_params(theirs), x, np.ones(x.shape[:2], bool))
    caught: list[torch.Tensor] = []
    theirs.ffn2.register_forward_hook(lambda module, inputs, output: caught.append(output))
    with torch.no_grad():
        expected = theirs(torch.tensor(x))
    return [
        Difference(label, what, np.abs(a - b.numpy()).max(), TOLERANCE)
        for what, a, b in (("output", out, expected), ("feed-forward", ff, caught[0]))
    ]


def rotary() -> list[Difference]:
    """Of 750 frames, 15 s: angles grow to as many radians, which float32 keeps to 1e-4."""
    config = transformers.Wav2Vec2ConformerConfig(hidden_size=128, num_attention_heads=2)
    positions = Wav2Vec2ConformerRotaryPositionalEmbedding(config)
    attention = Wav2Vec2ConformerEncoderLayer(config).self_attn
    x = np.random.default_rng(0).normal(size=(1, 750, 128)).astype(np.float32)
    with torch.no_grad():
        expected = attention._apply_rotary_embedding(torch.tensor(x), positions(torch.tensor(x))).numpy()
    ours = np.asarray(rotate(jnp.asarray(x.reshape(1, 750, 2, 64)))).reshape(x.shape)
    return [Difference("rotary positions", "queries", np.abs(ours - expected).max(), 1e-3)]


def sinc_filters() -> list[Difference]:
    """PASE's first layer, as it starts, against scipy's window method, which has no band up to 8 kHz as the last is."""
    params: Any = Pure(lambda rngs: SincFilters(64, 251)).init(jax.random.PRNGKey(0))
    low, band = (np.asarray(params[name], np.float64) for name in ("low", "band"))
    edges = zip(50 + low[:-1], 100 + low[:-1] + band[:-1], strict=True)
    design = partial(scipy.signal.firwin, 251, window="hamming", pass_zero=False, scale=False, fs=16_000)
    expected = np.stack([design(edge) for edge in edges])
    expected /= expected[:, 125:126]  # peak 1
    ours = SincFilters(64, 251).kernel()[:-1]
    return [Difference("PASE", "sinc kernels", np.abs(ours - expected).max(), 1e-5)]


def recurrence() -> list[Difference]:
    """The QRNN's associative scan against one frame after the other, in float64."""
    rng = np.random.default_rng(0)
    keep, new = rng.uniform(size=(2, 400, 8)), rng.normal(size=(2, 400, 8))
    state, expected = np.zeros((2, 8)), np.empty_like(new)
    for t in range(400):
        state = expected[:, t] = keep[:, t] * state + new[:, t]
    ours = jax.jit(linear_recurrence)(keep.astype(np.float32), new.astype(np.float32))
    # States reach 5 or so: 1e-6 of that is a few roundings of float32.
    return [Difference("QRNN", "states of the recurrence", np.abs(ours - expected).max(), 5e-6)]
