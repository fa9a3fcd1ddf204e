"""Encoder, predictor and head that belong together, by `encoder.name`."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jepa_speech.config import from_section
from jepa_speech.nn.encoder import Encoder, EncoderConfig
from jepa_speech.nn.module import Pure, System
from jepa_speech.nn.predictor import ClusterHead, HeadConfig, Predictor
from jepa_speech.nn.released import released_system
from jepa_speech.nn.rows import valid


def system(config: Mapping[str, Any], mask_site: str, clusters: int, predictor_blocks: int) -> System:
    """The system of a config; `clusters` is the size of the head's output."""
    if config["encoder"]["name"] == "released_conformer":
        return released_system(config["encoder"], mask_site, clusters)
    encoder = from_section(EncoderConfig, config["encoder"], "encoder")
    head = from_section(HeadConfig, config["head"], "head")
    return System(
        encoder=Pure(lambda rngs: Encoder(encoder, rngs)),
        predictor=Pure(lambda rngs: Predictor(encoder, predictor_blocks, rngs)),
        head=Pure(lambda rngs: ClusterHead(encoder.width, clusters, head, jnp.dtype(encoder.dtype), rngs)),
        frames=encoder.frames,
        frame_rate=encoder.frame_rate,
        min_samples=encoder.min_samples,
    )


def standardise(wave: jax.Array, lengths: jax.Array) -> jax.Array:
    """Mean 0 and root mean square 1 over each row's valid samples; silence stays silence. (B, S), (B,) -> (B, S)."""
    inside = valid(lengths, wave.shape[1])
    count = lengths[:, None]
    wave = jnp.where(inside, wave - (wave * inside).sum(1, keepdims=True) / count, 0)
    power = jnp.square(wave).sum(1, keepdims=True) / count
    return wave / jnp.where(power > 1e-12, jnp.sqrt(power), 1)
