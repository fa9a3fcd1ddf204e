"""A tiny labelled corpus in the layout of `jepa-speech probe --data`: tones for phones, pitch for speakers."""

import zlib
from pathlib import Path

import numpy as np
import soundfile

from jepa_speech.files import write_jsonl
from jepa_speech.ingest import audio
from jepa_speech.probing.baselines import standardise
from jepa_speech.probing.phones import frame_phones

PHONES, SPEAKERS = {"AA": 500.0, "B": 1500.0, "SH": 4000.0}, {"anna": 90.0, "bert": 180.0}
SIZES = {"train": 8, "valid": 4, "test": 6}


def write_spoken(folder: Path, seconds: float = 0.8, seed: int = 0) -> Path:
    """WAV files, phones.jsonl, and the manifests of both tasks over the same recordings."""
    rng = np.random.default_rng(seed)
    (folder / "audio").mkdir(parents=True)
    phones, names, number = [], list(PHONES), 0
    for split, size in SIZES.items():
        rows = []
        for i in range(size):
            segments = [["SIL", 0.0, 0.1]]
            while segments[-1][2] < seconds - 0.05:
                end = min(seconds, segments[-1][2] + rng.uniform(0.1, 0.2))
                segments.append([names[number % 3], segments[-1][2], end])
                number += 1
            speaker = list(SPEAKERS)[i % 2]
            path = f"audio/{split}{i}.wav"
            soundfile.write(folder / path, wave_of(segments, SPEAKERS[speaker], seconds, rng), 16_000)
            phones.append({"audio_path": path, "phones": segments})
            rows.append({"audio_path": path, "duration": seconds, "speaker": speaker, "label": speaker})
        write_jsonl(folder / f"{split}.manifest.jsonl", rows)
        write_jsonl(folder / f"sid.{split}.manifest.jsonl", rows)
    write_jsonl(folder / "phones.jsonl", phones)
    return folder


def wave_of(segments: list, pitch: float, seconds: float, rng: np.random.Generator) -> np.ndarray:
    time = np.arange(round(seconds * 16_000)) / 16_000
    wave = 0.2 * np.sin(2 * np.pi * pitch * time) + 0.01 * rng.normal(size=len(time))
    for label, start, end in segments:
        if label in PHONES:
            wave += 0.3 * np.sin(2 * np.pi * PHONES[label] * time) * ((time >= start) & (time < end))
    return wave


def knowing(folder: Path, noise: bool = False):
    """An extractor of two layers: noise of the recording's own, and the phone of every frame as one of three axes (or
    noise again). It says the same of a recording each time, in any order, as an encoder does.
    """
    from jepa_speech.files import read_jsonl

    known = {}
    for row in read_jsonl(folder / "phones.jsonl"):
        wave = audio.load(folder / row["audio_path"])
        known[wave.tobytes()] = [tuple(segment) for segment in row["phones"]]

    def extract(wave: np.ndarray, sample_rate: int) -> list[np.ndarray]:
        samples = np.rint(wave * audio.FULL_SCALE).astype(np.int16)
        frames = (len(standardise(wave, sample_rate)) - 400) // 320 + 1
        labels = frame_phones(known[samples.tobytes()], frames)
        truth = (labels[:, None] == np.array(list(PHONES))).astype(np.float32)  # (T, 3)
        random = np.random.default_rng(zlib.crc32(samples.tobytes())).normal(size=(2, frames, 3)).astype(np.float32)
        return [random[0], random[1] if noise else truth]

    return extract
