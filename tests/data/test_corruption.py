"""Damaged files of real speech: every truncation and every flipped bit gets a verdict, and which go unseen is counted.

What must be named always: all damage to FLAC and Ogg, truncation of WAV. A flip in a WAV's samples cannot be seen;
one in an MP3 shows only where it breaks the chain of frames. docs/data.md states the counts that are asserted here.
"""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from jepa_speech.data.audio import Rejected, load

FORMATS = {
    "flac": ("FLAC", "PCM_16"),
    "wav": ("WAV", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
TRIES = 50


@pytest.fixture(scope="module")
def recordings(speech_data, tmp_path_factory):
    """Five clips of different speakers in each format, as bytes."""
    folder = tmp_path_factory.mktemp("whole")
    manifest = speech_data / "librispeech" / "train.manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    made = {suffix: [] for suffix in FORMATS}
    for row in rows[:: len(rows) // 4][:5]:
        wave, rate = soundfile.read(speech_data / "librispeech" / row["audio_path"], dtype="int16")
        for suffix, (container, subtype) in FORMATS.items():
            path = folder / f"x.{suffix}"
            soundfile.write(path, wave[: 4 * rate], rate, format=container, subtype=subtype)
            made[suffix].append(path.read_bytes())
    return made


def verdicts(path: Path, whole: list[bytes], damage, seed: int) -> Counter:
    """What becomes of files with random damage; "same": the samples are those of the whole file all the same."""
    random = np.random.default_rng(seed)
    found = Counter()
    for i in range(TRIES):
        data = whole[i % len(whole)]
        path.write_bytes(data)
        expected = load(path)
        path.write_bytes(damage(data, random))
        try:
            found["same" if np.array_equal(load(path), expected) else "stored"] += 1
        except Rejected as verdict:
            assert verdict.detail
            found[verdict.reason] += 1
    return found


def truncated(data: bytes, random: np.random.Generator) -> bytes:
    return data[: random.integers(len(data))]


def flipped(data: bytes, random: np.random.Generator) -> bytes:
    damaged = bytearray(data)
    damaged[random.integers(len(data))] ^= 1 << random.integers(8)
    return bytes(damaged)


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_truncation_is_named(suffix, recordings, tmp_path, record_property):
    found = verdicts(tmp_path / "x", recordings[suffix], truncated, seed=1)
    record_property("verdicts", dict(found))
    assert not found["stored"] and not found["same"], found


UNSEEN = {"flac": 0, "ogg": 0, "opus": 0, "wav": TRIES, "mp3": TRIES}  # at most


@pytest.mark.parametrize("suffix", FORMATS)
def test_flipped_bits(suffix, recordings, tmp_path, record_property):
    found = verdicts(tmp_path / "x", recordings[suffix], flipped, seed=2)
    record_property("verdicts", dict(found))
    assert found["stored"] + found["same"] <= UNSEEN[suffix], found
