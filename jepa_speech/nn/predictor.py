"""The predictor of latents and the head that predicts clusters."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.config import DEEPEST, check_sizes
from jepa_speech.errors import UsageError
from jepa_speech.nn.encoder import EncoderConfig, block
from jepa_speech.nn.layer_norm import LayerNorm
from jepa_speech.nn.linear import Linear
from jepa_speech.nn.row_random import dropout, fold, valid


class Predictor(nnx.Module):
    """Predicts the teacher's latents at masked frames: a mask token at masked frames, then blocks of the encoder's kind
    with rotary positions, then a linear map.
    """

    def __init__(self, config: EncoderConfig, blocks: int, rngs: nnx.Rngs):
        dtype = jnp.dtype(config.dtype)
        self.input = Linear(config.width, config.width, dtype=dtype, rngs=rngs)
        self.mask_token = nnx.Param(0.02 * jax.random.normal(rngs.params(), (config.width,)))
        self.blocks = nnx.List([block(config, rngs) for _ in range(blocks)])
        self.norm = LayerNorm(config.width, dtype, rngs)
        self.output = Linear(config.width, config.width, dtype=dtype, rngs=rngs)

    def __call__(
        self, z: jax.Array, mask: jax.Array, frame_lengths: jax.Array, keys: jax.Array | None = None
    ) -> jax.Array:
        """z (B, T, D), mask (B, T) True where masked, frame_lengths (B,) -> predicted latents (B, T, D)."""
        x = jnp.where(mask[..., None], self.mask_token[...].astype(z.dtype), self.input(z))
        inside = valid(frame_lengths, x.shape[1])
        for i, layer in enumerate(self.blocks):
            x, _ = layer(x, inside, fold(keys, i))
        return self.output(self.norm(x))  # (B, T, D)


@dataclasses.dataclass(frozen=True)
class HeadConfig:
    """Config section `head`: the cluster head of GMM-anchored JEPA."""

    width: int = 1024  # of the residual blocks
    blocks: int = 3  # number of residual blocks
    dropout: float = 0.1  # dropout probability

    def __post_init__(self) -> None:
        check_sizes(self, "head", ("width",))
        if not 0 <= self.blocks <= DEEPEST:
            raise UsageError(f"config key head.blocks = {self.blocks}: expected 0 to {DEEPEST:,}")


class ClusterHead(nnx.Module):
    """Logits over clusters: linear, norm, GELU, residual blocks, norm, linear (recipe of arXiv 2602.09040's code)."""

    def __init__(self, width: int, clusters: int, config: HeadConfig, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.rate = config.dropout
        self.input = Linear(width, config.width, dtype=dtype, rngs=rngs)
        self.input_norm = LayerNorm(config.width, dtype, rngs)
        self.norms: nnx.List[LayerNorm] = nnx.List()
        self.up: nnx.List[Linear] = nnx.List()
        self.down: nnx.List[Linear] = nnx.List()
        for _ in range(config.blocks):
            self.norms.append(LayerNorm(config.width, dtype, rngs))
            self.up.append(Linear(config.width, config.width, dtype=dtype, rngs=rngs))
            self.down.append(Linear(config.width, config.width, dtype=dtype, rngs=rngs))
        self.output_norm = LayerNorm(config.width, dtype, rngs)
        self.output = Linear(config.width, clusters, dtype=dtype, rngs=rngs)

    def __call__(self, z: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """z (B, T, D) -> logits (B, T, K) float32."""
        x = jax.nn.gelu(self.input_norm(self.input(z)))
        for i, (before, up, down) in enumerate(zip(self.norms, self.up, self.down, strict=True)):
            hidden = dropout(jax.nn.gelu(up(before(x))), self.rate, fold(keys, 2 * i))
            x = x + dropout(down(hidden), self.rate, fold(keys, 2 * i + 1))
        return self.output(self.output_norm(x)).astype(jnp.float32)
