"""Small synthetic recordings on disk, for tests of whatever reads audio."""

from pathlib import Path

import numpy as np
import soundfile


def tone(seconds: float, seed: int = 0, rate: int = 16_000) -> np.ndarray:
    """A noisy tone, float64 (S,), peak about 0.5, mean near zero."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    return 0.4 * np.sin(2 * np.pi * rng.uniform(100, 2000) * time) + 0.02 * rng.normal(size=len(time))


def write_tones(folder: Path, count: int, seconds: float = 0.2, seed: int = 0) -> list[Path]:
    """`count` WAV files of 16 kHz and slightly different lengths, named in order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"tone{i:03d}.wav" for i in range(count)]
    for i, path in enumerate(paths):
        soundfile.write(path, tone(seconds + 0.01 * (i % 7), seed + i), 16_000)
    return paths
