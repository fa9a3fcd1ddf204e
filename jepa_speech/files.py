"""Atomic writing of files, and reading of JSON."""

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
    """Returns a random name beside `path`. It contains the program's name, for `ownership.remove_temporaries`.

    Process ids are not unique, because containers on several machines may have equal ones.
    """
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.jepa-speech.tmp")


@contextmanager
def replacing(path: str | Path, parents: bool = True) -> Iterator[BinaryIO]:
    """Yields a file that replaces `path` when it is complete and on disk. After an error, it is removed.

    If `path` is a link, its target is replaced. parents: make missing folders.
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
    """Returns the text with lone surrogates escaped, which represent bytes that are not UTF-8: caf\\udce9."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def write_text(path: str | Path, text: str) -> None:
    """Writes UTF-8 atomically. Lone surrogates are escaped as in JSON."""
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
    deeply, or has a name twice within one object.
    """
    try:
        return loads(text if isinstance(text, str) else text.decode("utf-8"))
    except ValueError as error:
        raise UserError(f"{where}: not valid JSON ({error})") from error


def loads(text: str | bytes) -> Any:
    """Like `parse_json`, but raises ValueError with the reason instead of UserError."""
    try:
        return json.loads(text, object_pairs_hook=_each_once, parse_int=_integer)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _integer(digits: str) -> int:
    """Parses an integer, for json's parse_int. Raises ValueError for more digits than Python converts."""
    try:
        return int(digits)
    except ValueError as error:
        raise ValueError(f"an integer of {len(digits.lstrip('-'))} digits") from error


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns an object as a dict, for json's object_pairs_hook. Raises ValueError if a name occurs twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        name = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {name[:80]!r} more than once")
    return found


# Reads values one by one from a text, with the checks of `loads`.
DECODER = json.JSONDecoder(object_pairs_hook=_each_once, parse_int=_integer)


def read_json(path: str | Path) -> Any:
    """Returns the value of a JSON file. Raises UserError, naming the file, if it is missing or not JSON."""
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    return parse_json(text, str(path))


def read_object(path: str | Path) -> dict[str, Any]:
    """Returns the JSON object in a file. Raises UserError, naming the file, if it is missing or holds anything else."""
    return _object(read_json(path), str(path))


def read_jsonl(path: str | Path) -> Iterator[dict[str, Any]]:
    """Yields the rows of a JSON-lines file. Raises UserError, naming file and line, for a row that is not an object."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, 1):
            yield parse_row(line, f"{path}:{number}")


def parse_row(line: str | bytes, where: str) -> dict[str, Any]:
    """Returns the JSON object in a line. Raises UserError if it is not JSON (see `parse_json`), or not an object."""
    return _object(parse_json(line, where), where)


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where}: a JSON object was expected, not {type(value).__name__}")
    return value


def sha256_arrays(arrays: Mapping[str, Any]) -> str:
    """Returns a hash of names, shapes, types and bytes, independent of how the arrays are stored."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
