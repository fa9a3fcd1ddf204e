"""Hugging Face's audiofolder: metadata.jsonl or metadata.csv in a folder; field `file_name` names the recording."""

from collections.abc import Iterable
from pathlib import Path

from jepa_speech.errors import UserError
from jepa_speech.files import loads
from jepa_speech.ingest.inputs import jsonl, tables
from jepa_speech.ingest.inputs.lines import UTF8_MARK

KEY = "file_name"
HEAD = 4096
READERS = {"metadata.jsonl": jsonl.listed, "metadata.csv": tables.listed}


def of(folder: Path, names: Iterable[str]) -> Path | None:
    """Returns the metadata file of a folder with files of these names; None if there is none with `file_name`.

    Raises UserError if there are two.
    """
    found = [folder / name for name in sorted(set(names) & READERS.keys()) if _names_files(folder / name)]
    if len(found) > 1:
        raise UserError(f"{folder} has metadata.csv and metadata.jsonl; name one as --input, or remove one")
    return found[0] if found else None


def above(folder: Path) -> Path | None:
    """Returns the metadata file in the parent of this folder, if this one has none.

    If the parent is called `data`, its own parent is searched, too. Hugging Face's datasets have such a file for all of
    their splits, with rows such as train/a.wav. Raises UserError like `of`.
    """
    within = (folder.parent, folder.parent.parent) if folder.parent.name == "data" else (folder.parent,)
    found = (of(place, (name for name in READERS if (place / name).is_file())) for place in (folder, *within))
    rows = next(filter(None, found), None)
    return rows if rows and rows.parent != folder else None


def _names_files(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            first = file.read(HEAD).removeprefix(UTF8_MARK).lstrip().partition(b"\n")[0]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if path.suffix == ".csv":
        return KEY in tables.columns(first)
    try:
        row = loads(first)
    except ValueError:
        return f'"{KEY}"'.encode() in first  # a row longer than the head, or a wrong one, which the reader reports
    return isinstance(row, dict) and KEY in row
