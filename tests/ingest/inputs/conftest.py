"""Real recordings, for the tests that write them down as every kind of input."""

import hashlib
import json

import pytest

from jepa_speech.ingest import audio

CLIPS = 4


@pytest.fixture(scope="module")
def clips(speech_data):
    """Rows of some real recordings of two speakers, with their absolute path and the hash of their samples."""
    manifest = speech_data / "librispeech" / "valid.manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    rows = [*rows[: CLIPS // 2], *rows[-CLIPS // 2 :]]
    for row in rows:
        row["file"] = speech_data / "librispeech" / row["audio_path"]
        row["name"] = row["file"].stem
        row["digest"] = hashlib.sha256(audio.load(row["file"])).hexdigest()
    return sorted(rows, key=lambda row: row["name"])
