"""Tables with a header: Common Voice's .tsv, SpeechBrain's .csv, Hugging Face's metadata.csv, and similar ones."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jepa_speech.errors import UserError
from jepa_speech.ingest.inputs.entry import NUMBER, Entry
from jepa_speech.ingest.inputs.lines import UTF8_MARK, lines, not_utf8
from jepa_speech.ingest.inputs.reading import Reading
from jepa_speech.ingest.inputs.rows import PATH_KEYS, Rows

SEPARATORS = "\t,;|"
NUMBERS = ("duration", "offset", "start", "stop", "end")  # columns of times
SPEECHBRAIN = "ID"
COMMON_VOICE = ("client_id", "path", "sentence")
MOST_LINES = 1000  # lines of a row with line breaks in quoted fields


def separator(head: bytes) -> str:
    """Returns the separator of a table that begins with these bytes; "" if no column is known to name files."""
    line = _first_line(head)
    for mark in SEPARATORS:
        fields = _header(line, mark)
        if len(fields) > 1 and set(fields) & set(PATH_KEYS):
            return mark
    return "," if line.strip(' "') in PATH_KEYS else ""


def columns(head: bytes) -> list[str]:
    """Returns the names in the header of a table that begins with these bytes. The default separator is a comma."""
    return _header(_first_line(head), separator(head))


def _first_line(head: bytes) -> str:
    line = head.removeprefix(UTF8_MARK).lstrip(b"\r\n").partition(b"\n")[0]
    return line.decode("utf-8", "replace").rstrip("\r")


def listed(table: Path, reading: Reading) -> Iterator[Entry]:
    """Yields an entry per row. An empty cell is no label.

    Raises UserError if the header has a name twice, or if a quote is not closed.
    """
    numbered = lines(table)
    number, first = next(numbered)
    try:
        mark, header = separator(first), first.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{table}:{number}: {not_utf8(error)}") from error
    names = _header(header, mark)
    if twice := [name for name in names if name and names.count(name) > 1]:
        raise UserError(f"{table}:{number}: its header has the column {twice[0]!r} twice; rename one")
    plain = set(COMMON_VOICE) <= set(names)
    clips = table.parent / "clips"
    rows = Rows(table, reading, "clips" if plain and clips.is_dir() else "")
    for number, fields, wrong in _rows(table, numbered, mark, csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL):
        if wrong:
            yield rows.at(number).refused("bad_row", wrong)
        elif len(fields) != len(names):
            wrong = f"{len(fields)} fields, but the header has {len(names)}; quote fields that contain the separator"
            yield rows.at(number).refused("bad_row", wrong)
        else:
            row = {name: _value(name, field) for name, field in zip(names, fields, strict=True) if name}
            yield _entry(rows, number, row, plain)


def _entry(rows: Rows, number: int, row: dict[str, Any], is_common_voice: bool) -> Entry:
    if SPEECHBRAIN in row:
        return rows.of_speechbrain(number, {"id": row.pop(SPEECHBRAIN), **row})
    if is_common_voice and row["path"] and not Path(row["path"]).suffix:  # early versions of Common Voice left it out
        row["path"] += ".mp3"
    return rows.entry(number, row)


def _header(line: str, mark: str) -> list[str]:
    """Returns the names of the columns; "" for a column without a name, such as the index written by pandas."""
    try:
        return [name.strip() for name in next(csv.reader([line], delimiter=mark or ",", skipinitialspace=True), [])]
    except csv.Error:  # a carriage return within the line
        return []


def _value(name: str, field: str) -> Any:
    field = field.strip()
    if name in NUMBERS and NUMBER.fullmatch(field):
        return int(field) if field.isdecimal() and len(field) < 16 else float(field)
    return field or None


def _rows(
    table: Path, numbered: Iterator[tuple[int, bytes]], mark: str, quoting: int
) -> Iterator[tuple[int, Sequence[str], str]]:
    """Yields (first line, fields, error message or "") of every row. A quoted field may contain line breaks."""
    taken: list[tuple[int, bytes]] = []

    def text() -> Iterator[str]:
        for number, line in numbered:
            taken.append((number, line))
            if len(taken) > MOST_LINES:
                raise _open_quote(table, taken[0][0])
            yield line.decode("utf-8", "surrogateescape") + "\n"

    form: dict[str, Any] = {"delimiter": mark, "quoting": quoting, "skipinitialspace": mark != "\t"}
    try:
        for fields in csv.reader(text(), **form):
            number, row = taken[0][0], b"\n".join(line for _, line in taken)
            if any("\n" in field for field in fields) and not _is_closed(row, form):
                raise _open_quote(table, number)
            taken.clear()
            yield number, fields, _wrong_bytes(row)
    except csv.Error as error:
        raise UserError(f"{table}:{taken[0][0] if taken else 1}: not a table ({error})") from error


def _is_closed(row: bytes, form: dict[str, Any]) -> bool:
    """Whether the quotes of a row begin and end whole fields."""
    try:
        return len(list(csv.reader([row.decode("utf-8", "surrogateescape")], strict=True, **form))) == 1
    except csv.Error:
        return False


def _open_quote(table: Path, number: int) -> UserError:
    return UserError(f"{table}:{number}: a quote is not closed; double the quotes within quoted fields")


def _wrong_bytes(row: bytes) -> str:
    try:
        row.decode("utf-8")
    except UnicodeDecodeError as error:
        return not_utf8(error)
    return ""
