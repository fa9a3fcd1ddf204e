"""JSON files that are one value: an array of rows, or an object of rows by ID, which SpeechBrain writes."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jepa_speech.errors import UserError
from jepa_speech.files import DECODER, loads
from jepa_speech.ingest.inputs.entry import Entry
from jepa_speech.ingest.inputs.lines import whole
from jepa_speech.ingest.inputs.reading import Reading
from jepa_speech.ingest.inputs.rows import PATH_KEYS, Rows

SPACE = re.compile(r"[ \t\r\n]*")
ARRAY = re.compile(rb"\s*\[\s*(\{|\]|$)")
OBJECTS = re.compile(rb'\s*\{\s*"((?:[^"\\]|\\.)*)"\s*:\s*\{')
NAMES_A_FILE = re.compile(rf'"(?:{"|".join(PATH_KEYS)})"\s*:'.encode())


def looks_like_one(head: bytes) -> bool:
    """Returns whether a file that begins with these bytes (without byte order mark) is an array or object of rows."""
    if ARRAY.match(head):
        return True
    found = OBJECTS.match(head)
    if not found or found[1].decode("utf-8", "replace") in PATH_KEYS or not NAMES_A_FILE.search(head, found.end()):
        return False
    first, _, rest = head.strip().partition(b"\n")
    try:
        row = loads(first)
    except ValueError:
        return True  # not JSON lines, whose first line would be valid
    return not rest.strip() and not row.keys() & {"recording", *PATH_KEYS}


def listed(path: Path, reading: Reading) -> Iterator[Entry]:
    """Yields an entry per member. Raises UserError, naming the line, if the JSON is wrong or has an ID twice."""
    rows = Rows(path, reading)
    for line, name, row in members(path):
        if name is None:
            yield rows.entry(line, row)
        else:
            yield rows.of_speechbrain(line, row if not isinstance(row, dict) else {"id": name, **row})


def members(path: Path) -> Iterator[tuple[int, str | None, Any]]:
    """Yields (line, name, value) of each member of the array or object in a file; members of an array have no names.

    Only the text of the file and one member at a time are in memory. Raises UserError like `listed`.
    """
    text, decoder, seen = whole(path), DECODER, set()
    at = _past_space(text, 0)
    line, counted = 1, 0
    is_object, end = text[at] == "{", "}" if text[at] == "{" else "]"
    at = _past_space(text, at + 1)
    name: str | None = None
    try:
        while text[at] != end:
            line, counted = line + text.count("\n", counted, at), at
            if is_object:
                name, at = decoder.raw_decode(text, at)
                if not isinstance(name, str) or name in seen:
                    raise ValueError(f"the name {name!r} twice" if isinstance(name, str) else "a name was expected")
                seen.add(name)
                at = _expected(text, _past_space(text, at), ":")
            value, at = decoder.raw_decode(text, at)
            yield line, name, value
            at = _past_space(text, at)
            if text[at] != end:
                at = _expected(text, at, ",")
        if rest := text[at + 1 :].strip():
            raise ValueError(f"{rest[:20]!r} after its end")
    except IndexError as error:
        raise UserError(f"{path}: not valid JSON: the file is incomplete; copy it again") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not valid JSON ({error.msg}, column {error.colno})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}:{line}: not valid JSON ({error})") from error


def _past_space(text: str, at: int) -> int:
    found = SPACE.match(text, at)
    assert found is not None  # the pattern matches the empty string
    return found.end()


def _expected(text: str, at: int, mark: str) -> int:
    """Returns the position after `mark` and spaces; `mark` must be at `at`."""
    if text[at] != mark:
        raise json.JSONDecodeError(f"Expecting {mark!r}", text, at)
    return _past_space(text, at + 1)
