"""A language that is easy to recognise: each character is a tone, each space a silence."""

import json
from pathlib import Path

import numpy as np
import soundfile

RATE, BEAT = 16_000, 0.14  # s a character
PITCH = {"a": 300.0, "b": 700.0, "c": 1500.0}


def melody(text: str, seed: int = 0) -> np.ndarray:
    """Float64 (S,): the tones of a text, with a little noise and some of every beat silent."""
    random, beat = np.random.default_rng(seed), round(BEAT * RATE)
    time = np.arange(beat) / RATE
    heard = time < 0.75 * BEAT
    tones = [0.3 * np.sin(2 * np.pi * PITCH.get(character, 0.0) * time) * heard for character in text]
    return np.concatenate(tones) + 0.003 * random.normal(size=beat * len(text))


def words(random: np.random.Generator) -> str:
    return " ".join("".join(random.choice(list(PITCH), random.integers(1, 4))) for _ in range(random.integers(1, 3)))


def melodies(folder: Path, count: int, seed: int = 0) -> Path:
    """A manifest of `count` recordings with their texts."""
    folder.mkdir(parents=True)
    rows, random = [], np.random.default_rng(seed)
    for i in range(count):
        rows.append({"audio_path": f"{i:03d}.wav", "text": words(random)})
        soundfile.write(folder / rows[-1]["audio_path"], melody(rows[-1]["text"], seed + i), RATE)
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return manifest
