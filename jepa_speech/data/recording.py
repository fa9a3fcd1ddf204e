"""From an entry of a listing to a record of a store, or to the reason why it is none."""

import hashlib
from typing import Any

from jepa_speech.data import audio
from jepa_speech.data.manifest import Entry
from jepa_speech.features.grid import SAMPLE_RATE

DURATION_TOLERANCE = (0.1, 0.02)  # a manifest's duration may be off by 0.1 s or 2%, whichever is more


def recording(entry: Entry, codec: str) -> tuple[dict[str, Any], bytes | None]:
    """The sidecar's row of an entry, and its record (None if the entry is rejected)."""
    try:
        if entry.reason:
            raise audio.Rejected(entry.reason, entry.detail)
        wave = audio.load(entry.path)
        seconds = len(wave) / SAMPLE_RATE
        slack = max(DURATION_TOLERANCE[0], DURATION_TOLERANCE[1] * seconds)
        if entry.duration is not None and abs(entry.duration - seconds) > slack:
            raise audio.Rejected("duration_mismatch", f"{seconds:.2f} s long, its manifest says {entry.duration:g}")
    except audio.Rejected as verdict:
        where = {"manifest": entry.manifest, "line": entry.line} if entry.manifest else {}
        name = entry.source if entry.manifest else entry.path
        return {"source": name, **where, "reason": verdict.reason, "detail": verdict.detail}, None
    row = {
        "samples": len(wave),
        "level": audio.level(wave),
        "digest": hashlib.sha256(wave).hexdigest(),
        "record": {"source": entry.source, "duration": round(seconds, 4), **entry.labels},
    }
    return row, audio.encode(wave, codec)
