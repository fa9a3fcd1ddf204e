"""Decodes a recording to the waveform of a store and encodes it, or rejects it with a short stable reason.

The waveform of a store is mono (mean of the channels) at 16 kHz with 16 bits. Its mean is subtracted, and it is scaled
down if its peak exceeds 1. Both codecs store the same samples.
"""

import io
import math
from pathlib import Path

import numpy as np
import soundfile

from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.ingest import flac_crop
from jepa_speech.ingest.audio_source import AudioSource, Rejected, system_errors_as_rejected
from jepa_speech.ingest.decoding import decode

__all__ = ["CODECS", "FULL_SCALE", "Rejected", "crop", "encode", "level", "load", "load_with_rate", "to_int16"]

CODECS = ("flac", "pcm16")
BLOCK = 1 << 18  # samples at a time
FULL_SCALE = 32_768


def load(place: str | Path | AudioSource) -> np.ndarray:
    """Returns the waveform of a file or of an entry of a listing, int16 (S,) at 16 kHz.

    Raises Rejected, with the reasons of docs/data.md.
    """
    return load_with_rate(place if isinstance(place, AudioSource) else AudioSource(path=str(place)))[0]


def load_with_rate(place: AudioSource) -> tuple[np.ndarray, int]:
    """Returns what `load` returns, and the sampling rate of the file (Hz)."""
    with system_errors_as_rejected():
        wave, rate = decode(place)
        return to_int16(wave), rate


def to_int16(wave: np.ndarray) -> np.ndarray:
    """Returns int16 (S,) of float32 (S,): mean 0, peak at most 1. Changes `wave`."""
    wave -= np.float32(wave.mean(dtype=np.float64))
    peak = max(float(wave.max()), -float(wave.min()))
    wave *= np.float32(FULL_SCALE / max(1.0, peak))
    np.rint(wave, out=wave)
    return np.clip(wave, -FULL_SCALE, FULL_SCALE - 1, out=wave).astype("<i2")


def level(wave: np.ndarray) -> float:
    """Returns the RMS of an int16 wave on the scale of [-1, 1]. Digital silence gets 1, to avoid division by 0."""
    squares = sum(float(np.square(wave[at : at + BLOCK], dtype=np.float64).sum()) for at in range(0, len(wave), BLOCK))
    return math.sqrt(squares / len(wave)) / FULL_SCALE if squares else 1.0


def encode(wave: np.ndarray, codec: str) -> bytes:
    """Encodes an int16 wave as one record of a store."""
    if codec == "pcm16":
        return wave.astype("<i2", copy=False).tobytes()
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def crop(record: bytes, codec: str, start: int, samples: int) -> np.ndarray:
    """Decodes only `samples` samples from `start` on, float32 in [-1, 1]."""
    if codec == "pcm16":
        return np.frombuffer(record, "<i2", samples, 2 * start).astype(np.float32) / FULL_SCALE
    return flac_crop.crop(record, start, samples)
