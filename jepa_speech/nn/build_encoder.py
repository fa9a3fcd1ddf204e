"""Encoders by `encoder.name`, and the predictor and head that go with each."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.config import present
from jepa_speech.errors import UsageError
from jepa_speech.nn.conformer_encoders import ConformerEncoder, Wav2Vec2BertConfig, Wav2Vec2ConformerConfig
from jepa_speech.nn.encoder import Encoder, EncoderConfig
from jepa_speech.nn.masks import Fill, MaskConfig
from jepa_speech.nn.module import Pure, PureEncoder
from jepa_speech.nn.predictor import ClusterHead, HeadConfig, Predictor
from jepa_speech.nn.released import ReleasedConfig, ReleasedEncoder, ReleasedPredictor, check_mask_site
from jepa_speech.nn.released_head import ReleasedHead
from jepa_speech.nn.row_random import valid
from jepa_speech.nn.wav2vec2 import Wav2Vec2Config, Wav2Vec2Encoder

Make = Callable[[Any, Fill, nnx.Rngs], nnx.Module]

# encoder.name -> its config, and what builds it from (config, mask.fill, rngs).
ENCODERS: dict[str, tuple[type, Make]] = {
    "conformer": (EncoderConfig, Encoder),
    "transformer": (EncoderConfig, Encoder),
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2Encoder),
    "wav2vec2_conformer": (Wav2Vec2ConformerConfig, ConformerEncoder),
    "wav2vec2_bert": (Wav2Vec2BertConfig, ConformerEncoder),
    "released_conformer": (ReleasedConfig, lambda config, fill, rngs: ReleasedEncoder(config, rngs)),
}


def build_encoder(config: Any, mask: MaskConfig) -> PureEncoder:
    """The encoder of a typed config section `encoder`, one of ENCODERS.

    Raises UsageError if it cannot be masked as `mask` says.
    """
    make = ENCODERS[config.name][1]
    if mask.fill == "noise" and (not isinstance(config, EncoderConfig) or config.frontend == "conv"):
        raise UsageError(
            "config key mask.fill = noise: replaces log-mel frames; set encoder.name to conformer or transformer and "
            "encoder.frontend to logmel, subsampled or subsampled50, or choose another mask.fill"
        )
    if isinstance(config, ReleasedConfig):
        check_mask_site(mask.site)
    return PureEncoder(
        make=lambda rngs: make(config, mask.fill, rngs),
        width=config.width,
        features=config.features,
        frames=config.frames,
        frame_rate=config.frame_rate,
        min_samples=config.min_samples,
        padding_exact=config.padding_exact,
        packs=getattr(config, "packs", False),
        own_level=getattr(config, "level", "unit") == "own",
    )


def encoder_kind(name: Any) -> type:
    """The dataclass of the config section `encoder` of this name; raises UsageError for an unknown one."""
    if not isinstance(name, str) or name not in ENCODERS:
        raise UsageError(f"config key encoder.name = {name!r}: known are {', '.join(ENCODERS)}")
    return ENCODERS[name][0]


def predictor_and_head(encoder: Any, head: HeadConfig | None, clusters: int, blocks: int) -> tuple[Pure, Pure]:
    """The predictor of latents, predictor(z, mask, frame lengths, keys), and the cluster head, head(z, keys).

    encoder: a typed config section. Raises UsageError without `head`, which only a released encoder does not need.
    """
    if isinstance(encoder, ReleasedConfig):
        predictor = Pure(lambda rngs: ReleasedPredictor(encoder, rngs))
        return predictor, Pure(lambda rngs: ReleasedHead(encoder.width, clusters, encoder.dropout, rngs))
    sizes, dtype = present(head, "head"), jnp.dtype(encoder.dtype)
    predictor = Pure(lambda rngs: Predictor(predictor_config(encoder), blocks, rngs))
    return predictor, Pure(lambda rngs: ClusterHead(encoder.width, clusters, sizes, dtype, rngs))


def predictor_config(config: Any) -> EncoderConfig:
    """Returns the config of a predictor's blocks: the encoder's own, or a transformer's of the same size."""
    if isinstance(config, EncoderConfig):
        return config
    shared = ("width", "heads", "hidden", "dropout", "dtype")
    return EncoderConfig(name="transformer", **{key: getattr(config, key) for key in shared})


def encoder_input(encoder: PureEncoder, wave: jax.Array, lengths: jax.Array) -> jax.Array:
    """Waves of any level (B, S), lengths (B,) -> the input of the encoder (B, S): standardised, or as recorded."""
    return jnp.where(valid(lengths, wave.shape[1]), wave, 0) if encoder.own_level else standardise(wave, lengths)


def standardise(wave: jax.Array, lengths: jax.Array) -> jax.Array:
    """Mean 0 and root mean square 1 over each row's valid samples; silence stays silence. (B, S), (B,) -> (B, S)."""
    inside = valid(lengths, wave.shape[1])
    count = lengths[:, None]
    wave = jnp.where(inside, wave - (wave * inside).sum(1, keepdims=True) / count, 0)
    power = jnp.square(wave).sum(1, keepdims=True) / count
    return wave / jnp.where(power > 1e-12, jnp.sqrt(power), 1)
