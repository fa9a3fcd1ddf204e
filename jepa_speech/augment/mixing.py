"""Mixing another voice or a noise into the student's input (WavLM, arXiv 2110.13900, algorithm 1).

A pure function of the row's key. Ratios in decibels refer to the levels of whole recordings, so they do not depend on
crop or padding. The teacher and the anchors always get the clean view.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from jepa_speech.errors import UsageError


@dataclass(frozen=True)
class MixingConfig:
    """Config section `mixing`: another recording of the store is added to the student's input.

    To train with noises, prepare them into the store.
    """

    utterance: float = 0.0  # probability of another recording over up to half of the row
    noise: float = 0.0  # probability of another recording over the whole row instead
    utterance_db: tuple[float, float] = (-5.0, 5.0)  # energy ratio of `utterance` in dB, drawn from U(low, high)
    noise_db: tuple[float, float] = (-5.0, 20.0)  # signal-to-noise ratio of `noise` in dB, drawn from U(low, high)

    def __post_init__(self) -> None:
        if min(self.utterance, self.noise) < 0 or self.utterance + self.noise > 1:
            raise UsageError(
                f"config keys mixing.utterance = {self.utterance} and mixing.noise = {self.noise}: "
                "both must be at least 0, and their sum at most 1"
            )

    @property
    def active(self) -> bool:
        return self.utterance + self.noise > 0


def student_view(
    keys: jax.Array,
    clean: jax.Array,
    lengths: jax.Array,
    other: jax.Array,
    other_lengths: jax.Array,
    config: MixingConfig,
) -> jax.Array:
    """Returns mixed waves (B, S) with RMS of about 1. clean, other (B, S) have RMS 1; lengths, keys (B,)."""
    return jax.vmap(partial(_mix, config=config))(keys, clean, lengths, other, other_lengths)


def _mix(
    key: jax.Array,
    clean: jax.Array,
    length: jax.Array,
    other: jax.Array,
    other_length: jax.Array,
    config: MixingConfig,
) -> jax.Array:
    kind, ratio, size, where, start = jax.random.split(key, 5)
    draw = jax.random.uniform(kind)
    voice, noise = draw < config.utterance, draw < config.utterance + config.noise
    low, high = jnp.where(voice, jnp.array(config.utterance_db), jnp.array(config.noise_db))
    gain = 10 ** (-jax.random.uniform(ratio, minval=low, maxval=high) / 20)
    overlap = jnp.where(voice, jax.random.randint(size, (), 1, jnp.maximum(length // 2, 1) + 1), length)
    first = jax.random.randint(where, (), 0, length - overlap + 1)
    sample = jnp.arange(clean.size)
    inside = noise & (sample >= first) & (sample < first + overlap) & (other_length > 0)
    # A source shorter than the overlap is repeated.
    period = jnp.maximum(other_length, 1)
    source = other[(sample - first + jax.random.randint(start, (), 0, period)) % period]
    mixed = clean + jnp.where(inside, gain * source, 0)
    # The expected level, not the measured one: the masked samples must not change the volume of the others.
    share = overlap / jnp.maximum(length, 1)
    return mixed / jnp.where(noise & (other_length > 0), jnp.sqrt(1 + gain**2 * share), 1)
