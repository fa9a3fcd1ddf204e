"""Damaged files of real speech: every truncation and every flipped bit gets a verdict, and which go unseen is counted.

All damage must be named, with two exceptions: a flip in a WAV's samples cannot be seen, and one in the first frame of
an MP3, which holds no sound, need not be. docs/data.md states what more of the same tries gave.
"""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from jepa_speech.ingest.audio import Rejected, load

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


def verdicts(path: Path, whole: list[bytes], damage, seed: int, tries: int = TRIES) -> Counter:
    """What becomes of files with random damage; "same": the samples are those of the whole file all the same."""
    random = np.random.default_rng(seed)
    found, expected = Counter(), []
    for data in whole:
        path.write_bytes(data)
        expected.append(load(path))
    for i in range(tries):
        path.write_bytes(damage(whole[i % len(whole)], random))
        try:
            found["same" if np.array_equal(load(path), expected[i % len(whole)]) else "stored"] += 1
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


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_flip_is_named_but_in_wav(suffix, recordings, tmp_path, record_property):
    found = verdicts(tmp_path / "x", recordings[suffix], flipped, seed=2)
    record_property("verdicts", dict(found))
    assert found["stored"] == (TRIES if suffix == "wav" else 0), found
    assert found["same"] == 0 or suffix == "mp3", found


@pytest.mark.parametrize("suffix", FORMATS)
def test_nothing_crashes_on_a_damaged_header(suffix, recordings, tmp_path):
    """Every truncation within the first 150 bytes, and flips there: a verdict, or the same samples."""
    whole = recordings[suffix][:1]
    cuts = iter(range(150))
    found = verdicts(tmp_path / "x", whole, lambda data, _: data[: next(cuts)], seed=0, tries=150)
    assert not found["stored"] and not found["same"], found
    found = verdicts(tmp_path / "x", whole, lambda data, random: flipped(data[:120], random) + data[120:], seed=3)
    assert not found["stored"] or suffix in ("wav", "mp3"), found  # a rate, in their headers


def test_an_mp3_without_its_encoders_checksum(recordings, tmp_path):
    """Then flips go unseen: it is the checksum that names them, and nothing else."""
    bare = [data[: (at := data.find(b"Xing") + 152)] + bytes(2) + data[at + 2 :] for data in recordings["mp3"]]
    assert verdicts(tmp_path / "x", bare, flipped, seed=2)["stored"] > TRIES // 2
    stale = bytearray(recordings["mp3"][0])
    stale[stale.find(b"Xing") + 151] ^= 1  # of a file of another length: editors leave it
    (tmp_path / "x").write_bytes(stale)
    load(tmp_path / "x")
