"""Makes entries (file, segment, labels) of the rows of a manifest in JSON or a table."""

import re
from pathlib import Path
from typing import Any

from jepa_speech.checked import shown
from jepa_speech.ingest.inputs import lhotse, speechbrain
from jepa_speech.ingest.inputs.entry import NUMBER, Entry, is_number, is_positive
from jepa_speech.ingest.inputs.reading import Reading

PATH_KEYS = (
    "audio_path", "wav_path", "path", "audio_filepath", "file_name", "audio", "wav", "file", "file_path", "filename",
    "wav_filename",
)  # fmt: skip
WENET = ("key", "wav", "txt")
# Common names of columns with a segment's times. Only `offset` and `duration` are read (docs/manifests.md).
TIMES = re.compile(
    r"(?:[a-z]+_)?(?:start|begin|onset|end|stop)(?:_?(?:times?|s|secs?|seconds?|ms|samples?|frames?))?|xmin|xmax"
)


class Rows:
    """Makes entries of the rows of one manifest. Paths are relative to its folder, or to `audio` below it.

    Paths written by a recipe (Lhotse, SpeechBrain, WeNet) are relative to `reading.base`.
    """

    def __init__(self, manifest: Path, reading: Reading, audio: str = "") -> None:
        self.manifest, self.passed, self._reading = str(manifest), reading.passed, reading
        self._folder, self._recipe = manifest.parent / audio, reading.base(manifest.parent)
        self._bounds = reading.bounds(manifest.parent)

    def at(self, line: int) -> Entry:
        """Returns an empty entry for a line."""
        return Entry(source="", line=line, manifest=self.manifest)

    def entry(self, line: int, row: Any) -> Entry:
        """Returns the entry of a row: Lhotse's cut or recording, WeNet's row, or any other (docs/manifests.md)."""
        entry, folder = self.at(line), self._recipe
        if not isinstance(row, dict):
            return entry.refused("not_an_object", f"a JSON object was expected, not {type(row).__name__}")
        if lhotse.is_recording(row):
            row = lhotse.whole(row)
        if lhotse.is_cut(row):
            entry = lhotse.entry(entry, row, self.passed)
        elif all(key in row for key in WENET):
            entry = _of_wenet(entry, row)
        else:
            entry, folder = self._flat(entry, row), self._folder
        return self._located(entry, folder)

    def of_speechbrain(self, line: int, row: Any) -> Entry:
        """Returns the entry of a row of SpeechBrain's .csv or .json, whose segments are in samples."""
        if not isinstance(row, dict):
            return self.at(line).refused("not_an_object", f"a JSON object was expected, not {type(row).__name__}")
        has_times_of_another_unit = row.get("end") is not None and row.get("stop") is None
        names_no_file = not any(map(row.get, speechbrain.WAV))
        if row.get("offset") is not None or has_times_of_another_unit or names_no_file:  # another toolkit's, with an ID
            return self.entry(line, row)
        entry, start, stop = speechbrain.entry(self.at(line), row)
        return speechbrain.cut(self._located(entry, self._recipe), start, stop)

    def _located(self, entry: Entry, folder: Path) -> Entry:
        if entry.reason:
            return entry
        entry = self._bounds.located(entry.but(path=str(folder / entry.source)))
        return self._reading.advised(entry) if folder is self._recipe else entry

    def _flat(self, entry: Entry, row: dict[str, Any]) -> Entry:
        key = next((key for key in PATH_KEYS if _named(row.get(key))), "")
        if not (source := _named(row.get(key))):
            has = ", ".join(str(key)[:20] for key in list(row)[:6])
            return entry.refused("no_audio_path", f"none of {', '.join(PATH_KEYS)} names a file (its keys: {has})")
        entry = entry.but(source=source)
        duration, offset = row.get("duration"), row.get("offset")
        if wrong := wrong_times(offset, duration):
            return entry.refused("bad_duration", wrong)
        entry = entry.labelled(row, (key, "duration", "offset"))
        if offset is None:
            if any(TIMES.fullmatch(str(key).lower()) and _may_be_time(value) for key, value in row.items()):
                self.passed.add("segment", Path(self.manifest).name, f"{self.manifest}:{entry.line}")
            return entry.but(duration=duration)
        return entry.but(start=float(offset), seconds=duration and float(duration))  # a segment, as in NeMo


def _named(value: Any) -> str:
    """Returns the path in a value, or in {"path": ...} as in Hugging Face's datasets; "" if there is none."""
    path = value.get("path") if isinstance(value, dict) else value
    return path if isinstance(path, str) else ""


def _may_be_time(value: Any) -> bool:
    """Whether a value is a number, or the text of one (in tables)."""
    return is_number(value) or (isinstance(value, str) and bool(NUMBER.fullmatch(value)))


def wrong_times(offset: Any, duration: Any) -> str:
    """Returns an error message about the times of a row, which are in seconds; "" if they are right."""
    if duration is not None and not is_positive(duration):
        return f"duration {shown(duration)} is not a positive number of seconds"
    if offset is not None and not (is_positive(offset) or offset == 0):
        return f"offset {shown(offset)} is not a number of seconds"
    return ""


def _of_wenet(entry: Entry, row: dict[str, Any]) -> Entry:
    """Returns the entry of a row of data.list: {"key", "wav", "txt"}, with "start" and "end" (s) for a segment."""
    source, start, end = row["wav"], row.get("start"), row.get("end")
    if not isinstance(source, str) or not source:
        return entry.refused("no_audio_path", f"wav is {shown(source)}, not the name of a file")
    entry = entry.but(source=source)
    if (start is None) != (end is None) or (start is not None and not _is_stretch(start, end)):
        return entry.refused("bad_segment", f"from {shown(start)} s to {shown(end)} s")
    entry = entry.labelled({"id": row["key"], **row}, ("key", "wav", "start", "end"))
    return entry if start is None else entry.but(start=float(start), seconds=float(end - start))


def _is_stretch(start: Any, end: Any) -> bool:
    return is_number(start) and is_number(end) and 0 <= start < end
