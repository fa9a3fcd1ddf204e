"""Product quantiser with Gumbel noise (wav2vec 2.0, arXiv 2006.11477, section 2 and eq. 1), in float32."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.config import check_sizes
from jepa_speech.errors import UsageError
from jepa_speech.nn.linear import Linear


@dataclass(frozen=True)
class QuantizerConfig:
    """Config section `quantizer` of wav2vec 2.0 and w2v-BERT."""

    groups: int = 2  # codebooks [fairseq: latent_groups; paper: G]
    codes: int = 320  # codes of each codebook [fairseq: latent_vars; paper: V]
    width: int = 256  # of the code vectors of all groups together [fairseq: latent_dim]
    # start, decay and floor: max(start * decay^step, floor) [fairseq: latent_temp, as start, floor, decay]
    temperature: tuple[float, float, float] = (2.0, 0.999995, 0.5)

    def __post_init__(self) -> None:
        check_sizes(self, "quantizer", ("groups", "codes", "width"))
        if self.width % self.groups:
            raise UsageError(
                f"config key quantizer.width = {self.width}: must be a multiple of quantizer.groups = {self.groups}"
            )

    def temperature_at(self, step: jax.Array) -> jax.Array:
        start, decay, floor = self.temperature
        # The logarithm is taken in float64: 0.999995 itself is not a float32, and 100,000 powers of it show that.
        return jnp.maximum(start * jnp.exp(math.log(decay) * step), floor).astype(jnp.float32)


class Quantized(NamedTuple):
    vectors: jax.Array  # (B, T, D), with the gradient of the soft choice
    ids: jax.Array  # (B, T, G) int32
    probs: jax.Array  # (B, T, G, V) without noise: what the diversity loss wants spread out


class GumbelQuantizer(nnx.Module):
    def __init__(self, inputs: int, config: QuantizerConfig, rngs: nnx.Rngs):
        self.groups, self.codes = config.groups, config.codes
        normal = nnx.initializers.normal(1.0)
        self.logits = Linear(inputs, config.groups * config.codes, kernel_init=normal, rngs=rngs)
        size = (config.groups, config.codes, config.width // config.groups)
        self.vectors = nnx.Param(jax.random.uniform(rngs.params(), size))

    def __call__(self, features: jax.Array, temperature: jax.Array, keys: jax.Array | None = None) -> Quantized:
        """features (B, T, C); keys (B,) draw the noise; None: the likeliest codes, which pass no gradient on."""
        logits = self.logits(features.astype(jnp.float32)).reshape(*features.shape[:2], self.groups, self.codes)
        probs, choice = jax.nn.softmax(logits), None
        if keys is None:
            ids = logits.argmax(-1)
            choice = jax.nn.one_hot(ids, self.codes)
        else:
            noise = jax.vmap(lambda key: jax.random.gumbel(key, logits.shape[1:]))(keys)
            soft = jax.nn.softmax((logits + noise) / temperature)
            ids = soft.argmax(-1)
            choice = jax.nn.one_hot(ids, self.codes) + soft - jax.lax.stop_gradient(soft)  # straight through
        vectors = jnp.einsum("btgv,gvd->btgd", choice, self.vectors[...], precision="highest")
        return Quantized(vectors.reshape(*features.shape[:2], -1), ids, probs)
