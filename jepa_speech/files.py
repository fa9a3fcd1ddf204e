"""Small files, written whole or not at all."""

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jepa_speech.errors import UserError


def temporary_name(path: Path) -> Path:
    """Returns a random name beside `path`. Process ids would not do: containers on several machines share them.

    The name holds this program's, so that `ownership.remove_temporaries` recognises the file.
    """
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.jepa-speech.tmp")


@contextmanager
def replacing(path: str | Path, parents: bool = True) -> Iterator[BinaryIO]:
    """Yields a file to write that replaces `path` once it is whole and on disk; after an error nothing is left.

    A link stays, and the file that it leads to is replaced. parents: make missing folders.
    """
    path = Path(os.path.realpath(path))
    if parents:
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def printable(text: str) -> str:
    """Returns the text with escapes for lone surrogates, which stand for bytes that are not UTF-8: caf\\udce9."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def write_text(path: str | Path, text: str) -> None:
    """Writes UTF-8; lone surrogates become escapes, which are JSON's, too."""
    with replacing(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def as_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def write_json(path: str | Path, value: Any) -> None:
    write_text(path, as_json(value))


def write_jsonl(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def parse_json(text: str | bytes, where: str) -> Any:
    """Returns the value of JSON text, in UTF-8 if it is bytes.

    where: names the file, and the line if there are several. Raises UserError if the text is not JSON, nested too
    deeply, or gives a name twice within one object.
    """
    try:
        return loads(text if isinstance(text, str) else text.decode("utf-8"))
    except ValueError as error:
        raise UserError(f"{where}: not valid JSON ({error})") from error


def loads(text: str | bytes) -> Any:
    """Returns the value of JSON text. Raises ValueError, with the reason, where `parse_json` raises UserError."""
    try:
        return json.loads(text, object_pairs_hook=_each_once, parse_int=_integer)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _integer(digits: str) -> int:
    """For json's parse_int. Raises ValueError for more digits than Python converts, which would take very long."""
    try:
        return int(digits)
    except ValueError as error:
        raise ValueError(f"an integer of {len(digits.lstrip('-'))} digits") from error


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's names and values, for json's object_pairs_hook. Raises ValueError if a name is there twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        name = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {name[:80]!r} more than once")
    return found


# Reads one value after the other from a text, as `loads` does.
DECODER = json.JSONDecoder(object_pairs_hook=_each_once, parse_int=_integer)


def read_json(path: str | Path) -> Any:
    """Raises UserError, naming the file, if it is missing or not JSON (see `parse_json`)."""
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    return parse_json(text, str(path))


def read_object(path: str | Path) -> dict[str, Any]:
    """Returns the JSON object in a file. Raises UserError, naming the file, if it is missing or holds anything else."""
    return _object(read_json(path), str(path))


def read_jsonl(path: str | Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSON-lines file; raises UserError with file and line if one is not a JSON object."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, 1):
            yield parse_row(line, f"{path}:{number}")


def parse_row(line: str | bytes, where: str) -> dict[str, Any]:
    """Returns the JSON object in a line. Raises UserError if it is no JSON (see `parse_json`), or no object."""
    return _object(parse_json(line, where), where)


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where}: a JSON object was expected, not {type(value).__name__}")
    return value


def sha256_arrays(arrays: Mapping[str, Any]) -> str:
    """A hash of names, shapes, types and bytes: the same wherever and however the arrays are stored."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
