"""JSON lines: of the released code (audio_path, wav_path), of NeMo (audio_filepath, offset), of Lhotse (cuts)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jepa_speech.data.inputs import lhotse
from jepa_speech.data.inputs.entry import Bounds, Entry, is_number, is_positive
from jepa_speech.data.inputs.lines import lines, not_utf8
from jepa_speech.data.inputs.passed_over import PassedOver
from jepa_speech.data.inputs.reading import Reading
from jepa_speech.files import loads

PATH_KEYS = ("audio_path", "wav_path", "path", "audio_filepath")


def listed(manifest: Path, reading: Reading) -> Iterator[Entry]:
    """Yields an entry per line that is not blank; the entry of a wrong line is refused with the reason.

    Paths are relative to the manifest's folder; those of cuts to `reading.base`, the folder that a recipe was run in.
    """
    folder = manifest.parent
    bounds, cuts, passed = reading.bounds(folder), reading.base(folder), reading.passed
    for number, line in lines(manifest):
        yield _entry(Entry(source="", line=number, manifest=str(manifest)), line, folder, cuts, bounds, passed)


def _entry(entry: Entry, line: bytes, folder: Path, cuts: Path, bounds: Bounds, passed: PassedOver) -> Entry:
    try:
        row = loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return entry.refused("bad_json", not_utf8(error))
    except ValueError as error:
        return entry.refused("bad_json", str(error))
    if not isinstance(row, dict):
        return entry.refused("not_an_object", f"a JSON object was expected, not {type(row).__name__}")
    if lhotse.is_cut(row):
        entry, folder = lhotse.entry(entry, row, passed), cuts
    else:
        entry = _flat(entry, row, passed)
    if entry.reason:
        return entry
    return bounds.located(entry.but(path=str(folder / entry.source)))


def _flat(entry: Entry, row: dict[str, Any], passed: PassedOver) -> Entry:
    source = next((row[key] for key in PATH_KEYS if row.get(key)), None)
    if not isinstance(source, str):
        has = ", ".join(str(key)[:20] for key in list(row)[:6])
        return entry.refused("no_audio_path", f"none of {', '.join(PATH_KEYS)} names a file (its keys: {has})")
    entry = entry.but(source=source)
    duration, offset = row.get("duration"), row.get("offset")
    if duration is not None and not is_positive(duration):
        return entry.refused("bad_duration", f"duration {duration!r} is not a positive number of seconds")
    if offset is not None and not (is_positive(offset) or offset == 0):
        return entry.refused("bad_duration", f"offset {offset!r} is not a number of seconds")
    entry = entry.labelled(row, (*PATH_KEYS, "duration", "offset"))
    if offset is None:
        if any(is_number(row.get(key)) for key in ("start", "end")):
            passed.add("segment", Path(entry.manifest).name, f"{entry.manifest}:{entry.line}")
        return entry.but(duration=duration)
    return entry.but(start=float(offset), seconds=duration and float(duration))  # a segment, as NeMo has it
