"""Recordings whose sound changes every 0.1 s, so that their frames fall into clusters."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from jepa_speech.store.prepare import prepare
from jepa_speech.store.store import Store

RATE = 16_000
VOICES = 6


def babble(seconds: float, seed: int = 0) -> np.ndarray:
    """Float64 (S,): harmonics of one of a few pitches, louder and softer, in a little noise."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    segment = (time * 10).astype(int)
    voice = random.integers(VOICES, size=segment[-1] + 1)[segment]
    loudness = random.uniform(0.05, 0.2, size=segment[-1] + 1)[segment]
    pitch = 120 * 1.5**voice
    wave = sum(np.sin(2 * np.pi * n * pitch * time) / n ** (1 + 0.2 * voice) for n in range(1, 6))
    return loudness * wave + 0.003 * random.normal(size=len(time))


def babble_store(folder: Path, seconds: Sequence[float], seed: int = 0) -> Store:
    """A store of recordings of these durations."""
    (folder / "audio").mkdir(parents=True)
    for i, duration in enumerate(seconds):
        soundfile.write(folder / "audio" / f"{i:03d}.wav", babble(duration, seed + i), RATE)
    prepare([folder / "audio"], folder / "store", "pcm16", workers=1)
    return Store(folder / "store")
