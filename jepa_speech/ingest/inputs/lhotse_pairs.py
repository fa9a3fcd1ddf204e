"""Lhotse's recordings and supervisions without cuts: each supervision is a segment, with its text and speaker.

The input is either file, or a folder with recordings.jsonl. The other file is beside it; its name has "recordings" and
"supervisions" exchanged.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from jepa_speech.errors import UserError
from jepa_speech.files import loads
from jepa_speech.ingest.inputs import jsonl, lhotse
from jepa_speech.ingest.inputs.entry import Entry
from jepa_speech.ingest.inputs.line_index import LineIndex, Twice
from jepa_speech.ingest.inputs.lines import UTF8_MARK, lines, not_utf8
from jepa_speech.ingest.inputs.reading import Reading
from jepa_speech.ingest.inputs.rows import PATH_KEYS, Rows

NAMES = ("recordings", "supervisions")


def is_supervision(row: Any) -> bool:
    if not isinstance(row, dict) or not {"recording_id", "start", "duration"} <= row.keys():
        return False
    return not row.keys() & {"recording", *PATH_KEYS}  # neither a cut nor a row that names its own file


def looks_like_one(head: bytes) -> bool:
    """Returns whether the first row in these first bytes of a file is a recording or a supervision."""
    try:
        row = loads(head.removeprefix(UTF8_MARK).lstrip().partition(b"\n")[0])
    except ValueError:
        return False
    return _is_recording(row) or is_supervision(row)


def _is_recording(row: Any) -> bool:
    return isinstance(row, dict) and lhotse.is_recording(row)


def in_folder(folder: Path) -> Path | None:
    """Returns the file of recordings in a folder written by Lhotse; None if it has none."""
    found = (folder / name for name in ("recordings.jsonl", "recordings.jsonl.gz"))
    return next((path for path in found if path.is_file() and _is_recording(_first_row(path))), None)


def partner(path: Path) -> Path | None:
    """Returns the file of supervisions for a file of recordings, or the reverse; None if it does not exist."""
    for ours, theirs in (NAMES, NAMES[::-1]):
        if ours in path.name:
            stem = path.name.replace(ours, theirs).removesuffix(".gz")
            found = (path.with_name(name) for name in (stem, f"{stem}.gz"))
            return next((other for other in found if other.is_file()), None)
    return None


def listed(path: Path, reading: Reading) -> Iterator[Entry]:
    """Yields an entry per supervision, or per recording if there are no supervisions.

    Raises UserError if the file of recordings is missing.
    """
    path = in_folder(path) or path
    other = partner(path)
    recordings: Path | None
    supervisions: Path | None
    if _is_recording(_first_row(path)):
        recordings, supervisions = path, other
    else:
        recordings, supervisions = other, path
        if recordings is None:
            raise UserError(
                f"{path}: the file of recordings is missing; put it beside this file, under the same name with "
                '"recordings" in place of "supervisions"'
            )
    if supervisions is None:
        yield from jsonl.listed(recordings, reading)
        return
    rows = Rows(supervisions, reading)
    with closing(LineIndex.of_any(recordings, _by_id)) as index:
        for number, line in lines(supervisions):
            yield _segment(rows, number, line, index)
        count, name = index.unused()
        if count:
            reading.passed.add("recording", recordings.name, f"{name} in {recordings}", count)


def _segment(rows: Rows, number: int, line: bytes, recordings: LineIndex) -> Entry:
    said, wrong = _row(line)
    if wrong:
        return rows.at(number).refused("bad_json", wrong)
    if not is_supervision(said):
        return rows.at(number).refused("bad_segment", "a supervision has recording_id, start and duration")
    try:
        found = recordings.get(str(said["recording_id"]).encode("utf-8", "surrogatepass"))
    except Twice as error:
        return rows.at(number).refused("duplicate", str(error))
    if found is None:
        return rows.at(number).refused("missing", f"{said['recording_id']!r} is not in {recordings.path}")
    recording = _row(found[1])[0]
    where = {key: said[key] for key in ("start", "duration")} | {"channel": said.get("channel")}
    if where["channel"] is None:
        where["channel"] = recording.get("channel_ids")
    return rows.entry(
        number, {"id": said.get("id"), **where, "supervisions": [said | {"start": 0}], "recording": recording}
    )


def _by_id(line: bytes) -> tuple[bytes, bytes]:
    row = _row(line)[0]
    if not _is_recording(row):
        return b"", b""
    return str(row["id"]).encode("utf-8", "surrogatepass"), line.strip()


def _first_row(path: Path) -> Any:
    """Returns the value of the first line that is not blank; None if it is not JSON or there is none."""
    return next((_row(line)[0] for _, line in lines(path)), None)


def _row(line: bytes) -> tuple[Any, str]:
    """Returns the value of a line, and an error message ("" if there is none)."""
    try:
        return loads(line.decode("utf-8")), ""
    except UnicodeDecodeError as error:
        return None, not_utf8(error)
    except ValueError as error:
        return None, str(error)
