"""PASE+'s distortions of the encoder's input (arXiv 2001.09239, table 1), as pure functions of the row's key.

They are applied in this order, each with its own probability: reverberation, another voice, noise, clipping, chopping,
down-sampling, dropping a band. PASE+ reads recorded impulse responses, noises and filters from files; here they are
synthetic. Impulse responses are decaying noise, noises have a random spectral slope, and filters are windowed sincs.
Chops fall anywhere, not only on speech. Filters and reverberation keep the energy of a row. Ratios in decibels are
computed over its valid samples.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jepa_speech.errors import UsageError
from jepa_speech.features.filters import band_pass
from jepa_speech.features.grid import SAMPLE_RATE

RESPONSE = 8000  # samples of an impulse response
T60 = (0.2, 0.9)  # seconds in which the reverberation falls by 60 dB
DIRECT = (0.0, 10.0)  # dB of the direct sound over the reverberation
VOICE_DB, NOISE_DB = (5.0, 7.5, 10.0), (0.0, 5.0, 10.0)
SLOPES = (0.0, 2.0)  # noise power is proportional to frequency ** -slope: white to brown
CLIPS = (0.1, 0.3, 0.5)  # clipping thresholds, as a share of the extremes
CHOPS = ((0.05, 0.025), (0.1, 0.05))  # mean and standard deviation of a gap's length in seconds; one or two gaps
DROPPED = (500.0, 2000.0)  # width of the dropped band in Hz
TAPS = 251


@dataclass(frozen=True)
class DistortionConfig:
    """Config section `mixing` of the objective `pase`: the probability of each distortion."""

    reverb: float = 0.0  # of a synthetic room response
    voice: float = 0.0  # of another recording over it
    noise: float = 0.0  # of synthetic noise
    clip: float = 0.0  # of clipping
    chop: float = 0.0  # of silenced pieces
    downsample: float = 0.0  # of a low-pass at 4 kHz
    band_drop: float = 0.0  # of a missing band

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 <= getattr(self, field.name) <= 1:
                raise UsageError(f"config key mixing.{field.name} = {getattr(self, field.name)}: not in [0, 1]")


def distort(
    keys: jax.Array,
    clean: jax.Array,
    lengths: jax.Array,
    other: jax.Array,
    other_lengths: jax.Array,
    config: DistortionConfig,
) -> jax.Array:
    """Returns distorted waves (B, S). clean, other (B, S) are 0 after their lengths (B,); keys (B,)."""
    return jax.vmap(partial(_chain, config=config))(keys, clean, lengths, other, other_lengths)


def _chain(
    key: jax.Array,
    x: jax.Array,
    length: jax.Array,
    other: jax.Array,
    other_length: jax.Array,
    config: DistortionConfig,
) -> jax.Array:
    inside = jnp.arange(x.size) < length
    chain: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
        "reverb": reverb,
        "voice": lambda key, x: voice(key, x, inside, other, other_length),
        "noise": lambda key, x: noise(key, x, inside),
        "clip": clip,
        "chop": lambda key, x: chop(key, x, length),
        "downsample": lambda _, x: as_loud(fir(x, jnp.array(0.0), jnp.array(4000.0)), x),
        "band_drop": band_drop,
    }
    for i, (name, effect) in enumerate(chain.items()):
        if probability := getattr(config, name):
            choose, draw = jax.random.split(jax.random.fold_in(key, i))
            x = jnp.where(jax.random.uniform(choose) < probability, effect(draw, x) * inside, x)
    return x


def reverb(key: jax.Array, x: jax.Array) -> jax.Array:
    """Adds synthetic reverberation, whose impulse response is exponentially decaying noise: (S,) -> (S,)."""
    decay, ratio, shape = jax.random.split(key, 3)
    t60 = jax.random.uniform(decay, minval=T60[0], maxval=T60[1])
    echo = jax.random.normal(shape, (RESPONSE,)) * jnp.exp(-3 * np.log(10) * np.arange(RESPONSE) / (t60 * SAMPLE_RATE))
    direct = jax.random.uniform(ratio, minval=DIRECT[0], maxval=DIRECT[1])
    echo = echo.at[0].set(0)
    echo = echo * 10 ** (-direct / 20) / jnp.sqrt(jnp.square(echo).sum())
    return as_loud(convolve(x, echo.at[0].set(1)), x)


def voice(key: jax.Array, x: jax.Array, inside: jax.Array, other: jax.Array, other_length: jax.Array) -> jax.Array:
    """Adds another recording to the whole row, from a random position, repeated if it is too short."""
    start, ratio = jax.random.split(key)
    period = jnp.maximum(other_length, 1)
    place = (jnp.arange(x.size) + jax.random.randint(start, (), 0, period)) % period
    return add(x, other[place] * inside, jax.random.choice(ratio, jnp.array(VOICE_DB)))


def noise(key: jax.Array, x: jax.Array, inside: jax.Array) -> jax.Array:
    white, slope, ratio = jax.random.split(key, 3)
    frequency = np.maximum(np.fft.rfftfreq(x.size, 1 / SAMPLE_RATE), 50.0)  # flat below 50 Hz
    tilt = jax.random.uniform(slope, minval=SLOPES[0], maxval=SLOPES[1])
    spectrum = jnp.fft.rfft(jax.random.normal(white, x.shape)) * jnp.exp(-tilt / 2 * np.log(frequency / 50.0))
    return add(x, jnp.fft.irfft(spectrum, x.size) * inside, jax.random.choice(ratio, jnp.array(NOISE_DB)))


def clip(key: jax.Array, x: jax.Array) -> jax.Array:
    factor = jax.random.choice(key, jnp.array(CLIPS))
    return jnp.clip(x, factor * x.min(), factor * x.max())


def chop(key: jax.Array, x: jax.Array, length: jax.Array) -> jax.Array:
    """Silences one or two gaps among the valid samples."""
    number, kind, size, where = jax.random.split(key, 4)
    mean, deviation = jnp.array(CHOPS)[jax.random.randint(kind, (2,), 0, len(CHOPS))].T
    gap = SAMPLE_RATE * jnp.maximum(mean + deviation * jax.random.normal(size, (2,)), 0)
    first = jax.random.uniform(where, (2,)) * jnp.maximum(length - gap, 0)
    sample = jnp.arange(x.size)[:, None]
    gaps = (sample >= first) & (sample < first + gap)  # (S, 2)
    second = jax.random.bernoulli(number)
    return jnp.where(gaps[:, 0] | (gaps[:, 1] & second), 0, x)


def band_drop(key: jax.Array, x: jax.Array) -> jax.Array:
    size, where = jax.random.split(key)
    width = jax.random.uniform(size, minval=DROPPED[0], maxval=DROPPED[1])
    low = jax.random.uniform(where) * (SAMPLE_RATE / 2 - width)
    return as_loud(x - fir(x, low, low + width), x)


def add(x: jax.Array, source: jax.Array, decibels: jax.Array) -> jax.Array:
    """Adds `source` to x, scaled so that x is `decibels` above it. A silent source adds nothing."""
    power, over = jnp.square(x).sum(), jnp.square(source).sum()
    gain = jnp.sqrt(power / jnp.where(over > 0, over, 1)) * 10 ** (-decibels / 20)
    return x + gain * source


def as_loud(y: jax.Array, x: jax.Array) -> jax.Array:
    """Scales y to the energy of x."""
    power = jnp.square(y).sum()
    return y * jnp.sqrt(jnp.square(x).sum() / jnp.where(power > 0, power, 1))


def fir(x: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
    """Returns the band from `low` to `high` Hz, without delay: (S,) -> (S,)."""
    gain = 2 * (high - low) / SAMPLE_RATE
    return convolve(x, gain * band_pass(low[None], high[None], TAPS)[0], TAPS // 2)


def convolve(x: jax.Array, kernel: jax.Array, delay: int = 0) -> jax.Array:
    """Returns samples delay ... delay + S - 1 of the convolution, computed by FFT: (S,), (K,) -> (S,)."""
    size = 1 << (x.size + kernel.size - 2).bit_length()
    product = jnp.fft.rfft(x, size) * jnp.fft.rfft(kernel, size)
    return jnp.fft.irfft(product, size)[delay : delay + x.size]
