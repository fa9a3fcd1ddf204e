"""Rows of SpeechBrain's manifests: `wav` names the file, `start` and `stop` count samples at the file's own rate.

A table has the columns ID, wav and others; JSON is one object of objects by ID. Paths begin with $data_root or
{data_root}, which means --root, by default the manifest's folder.
"""

import re
from functools import lru_cache
from typing import Any

from jepa_speech.checked import shown
from jepa_speech.ingest.audio_source import AudioSource, Rejected, system_errors_as_rejected
from jepa_speech.ingest.decoding import rate_of
from jepa_speech.ingest.inputs.entry import Entry, is_number, is_positive

WAV = ("wav", "wav_path", "path", "audio", "audio_path", "file_path")
PLACEHOLDER = re.compile(r"(?:\$[\w.]+|\{\w+\})/")
Samples = int | None


def entry(entry: Entry, row: dict[str, Any]) -> tuple[Entry, Samples, Samples]:
    """Returns the entry of a row, and the first and end sample of its segment, or None."""
    key = next((key for key in WAV if row.get(key)), "wav")
    wav: Any = row.get(key)
    times = row
    if isinstance(wav, dict):  # {"file", "start", "stop"}; the row's own start and stop then mean something else
        wav, times = wav.get("file", wav.get("files")), wav
    if isinstance(wav, list):
        if len(wav) != 1:
            return entry.refused("refused", f"{len(wav)} files of one recording; merge them first"), None, None
        (wav,) = wav
    if not isinstance(wav, str) or not wav:
        has = ", ".join(str(name)[:20] for name in list(row)[:6])
        return entry.refused("no_audio_path", f"none of {', '.join(WAV)} names a file (its keys: {has})"), None, None
    entry = entry.but(source=PLACEHOLDER.sub("", wav, count=1) if PLACEHOLDER.match(wav) else wav)
    start, stop = times.get("start"), times.get("stop")
    if not (_is_samples(start) and _is_samples(stop)) or (stop is not None and stop < (start or 0)):
        what = f"start {shown(start)}, stop {shown(stop)}: whole numbers of samples expected, stop after start"
        return entry.refused("bad_segment", what), None, None
    first, end = int(start or 0), int(stop or 0)  # as in SpeechBrain, stop = start means the end of the file
    is_cut = first > 0 or end > first
    used = (key, "start", "stop") if times is row else (key,)
    duration = row.get("duration")
    if not is_cut and duration is not None:
        if not is_positive(duration):
            what = f"duration {shown(duration)} is not a positive number of seconds"
            return entry.refused("bad_duration", what), None, None
        entry, used = entry.but(duration=float(duration)), (*used, "duration")
    entry = entry.labelled(row, used)
    return (entry, first, end if end > first else None) if is_cut else (entry, None, None)


def cut(entry: Entry, start: Samples, stop: Samples) -> Entry:
    """Returns the entry with its segment in seconds. Reads the rate of the file."""
    if entry.reason or start is None:
        return entry
    try:
        with system_errors_as_rejected():
            rate = _rate(entry.path, entry.stamp)
    except Rejected as error:
        return entry.refused(error.reason, error.detail)
    return entry.but(start=start / rate, seconds=None if stop is None else (stop - start) / rate)


@lru_cache(maxsize=1024)
def _rate(path: str, stamp: tuple[int, ...]) -> int:
    return rate_of(AudioSource(path=path, stamp=stamp))


def _is_samples(value: Any) -> bool:
    return value is None or (is_number(value) and value >= 0 and value == int(value))
