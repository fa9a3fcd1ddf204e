"""Makes a record of a store of a listed entry, or the reason for its rejection."""

import hashlib
from typing import Any

import numpy as np

from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.ingest import audio
from jepa_speech.ingest.audio_source import Rejected
from jepa_speech.ingest.decoding import slack
from jepa_speech.ingest.lengths import EVERY, Lengths
from jepa_speech.ingest.manifest import Entry


def recording(entry: Entry, codec: str, lengths: Lengths = EVERY) -> tuple[dict[str, Any], bytes | None]:
    """Returns the sidecar row of an entry, and its record (None if the entry is rejected, also by its length)."""
    try:
        wave, rate = checked_wave(entry)
        lengths.check(len(wave) / SAMPLE_RATE)
    except Rejected as error:
        return rejected_row(entry, error), None
    seconds = len(wave) / SAMPLE_RATE
    start = {"start": entry.start} if entry.is_segment else {}
    row = {
        "samples": len(wave),
        "level": audio.level(wave),
        "digest": hashlib.sha256(wave.data).hexdigest(),
        "record": {"source": entry.source, **start, "duration": round(seconds, 4), "rate": rate, **entry.labels},
    }
    return row, audio.encode(wave, codec)


def checked_wave(entry: Entry) -> tuple[np.ndarray, int]:
    """Returns the waveform of an entry, int16 (S,) at 16 kHz, and the sampling rate of its file (Hz).

    Raises Rejected, also if the listing refused the entry or the manifest gives another duration.
    """
    if entry.reason:
        raise Rejected(entry.reason, entry.detail)
    wave, rate = audio.load_with_rate(entry)
    compare_duration(len(wave) / SAMPLE_RATE, entry)
    return wave, rate


def wave_of(entry: Entry) -> np.ndarray:
    """Returns the waveform of an entry as a store would return it, float32 (S,) in [-1, 1]. Raises Rejected."""
    return checked_wave(entry)[0].astype(np.float32) / audio.FULL_SCALE


def rejected_row(entry: Entry, error: Rejected) -> dict[str, Any]:
    """Returns a row of rejects.jsonl: source, manifest and line if there is a manifest, reason and detail."""
    where = {"manifest": entry.manifest, "line": entry.line} if entry.manifest else {}
    name = entry.source if entry.manifest else entry.path
    return {"source": name, **where, "reason": error.reason, "detail": error.detail}


def compare_duration(seconds: float, entry: Entry) -> None:
    """Raises Rejected (duration_mismatch) if the manifest gives another duration than `seconds`."""
    claimed = entry.seconds if entry.is_segment else entry.duration
    if claimed is not None and abs(claimed - seconds) > slack(seconds):
        raise Rejected("duration_mismatch", f"{seconds:.2f} s long, but its manifest says {claimed:g} s")
