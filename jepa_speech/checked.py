"""Checks of values read from files: shape, type, finiteness and sign of arrays, and JSON fields."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jepa_speech.errors import UserError


def array(
    value: Any,
    where: str,
    *,
    shape: Sequence[int | None],
    kind: str = "f",
    least: float | None = None,
    above: float | None = None,
) -> np.ndarray:
    """Returns `value` as an array, after checking shape, type, finiteness, and that values are >= `least`, > `above`.

    shape: None for any size. kind: NumPy's letters for its type, "f" floating point, "iu" integers, "U" text. where:
    names the file and the array in the message. Raises UserError.
    """
    found = np.asarray(value)
    if found.dtype.kind not in kind:
        raise UserError(
            f"{where} has type {found.dtype}, not {NAMES.get(kind, kind)}: damaged, or another kind of file"
        )
    if found.ndim != len(shape) or any(n is not None and n != m for n, m in zip(shape, found.shape, strict=True)):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise UserError(f"{where} has shape {found.shape}, not ({wanted}): damaged, or another kind of file")
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        raise UserError(f"{where} holds NaN or infinite values: the file is damaged; make it again")
    if least is not None and found.size and found.min() < least:
        raise UserError(f"{where} holds {found.min():g}, less than {least:g}: the file is damaged; make it again")
    if above is not None and found.size and found.min() <= above:
        raise UserError(f"{where} holds {found.min():g}, not above {above:g}: the file is damaged; make it again")
    return found


LONGEST = 80  # characters of a value in a message
NAMES = {"f": "floating point", "iu": "integer", "fiu": "a number", "U": "text"}


def field(
    row: Any,
    name: str,
    kind: type | tuple[type, ...],
    where: str,
    *,
    default: Any = None,
    least: float | None = None,
    most: float | None = None,
    choices: Sequence[Any] | None = None,
) -> Any:
    """Returns row[name], checked: it has the type `kind`, is within [least, most], and among `choices` if given.

    A bool is not a number, and neither are NaN, infinities and integers beyond 64 bits. default: the value of a missing
    field; None: a missing field is an error. where: names the file, and the line if any. Raises UserError.
    """
    if not isinstance(row, Mapping):
        raise UserError(f"{where}: a JSON object was expected, not {type(row).__name__}")
    if default is not None and name not in row:
        return default
    if row.get(name) is None and default is None:
        raise UserError(f"{where}: the field {name} is missing")
    return value(row[name], f"{where}: {name}", kind, least=least, most=most, choices=choices)


def value(
    found: Any,
    where: str,
    kind: type | tuple[type, ...],
    *,
    least: float | None = None,
    most: float | None = None,
    choices: Sequence[Any] | None = None,
) -> Any:
    """Returns `found`, checked like a `field`. where: names the file and the field. Raises UserError."""
    wanted = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
    is_kind = isinstance(found, kind) and (kind is bool or not isinstance(found, bool))
    if not is_kind:
        raise UserError(f"{where} = {shown(found)}: expected {wanted}")
    if isinstance(found, float) and not math.isfinite(found):
        raise UserError(f"{where} = {found!r}: expected a finite number")
    if isinstance(found, int) and not -(2**63) <= found < 2**63:
        raise UserError(f"{where} = {shown(found)}: expected a number of at most 64 bits")
    if least is not None and found < least:
        raise UserError(f"{where} = {found!r}: expected at least {least:g}")
    if most is not None and found > most:
        raise UserError(f"{where} = {found!r}: expected at most {most:g}")
    if choices is not None and found not in choices:
        raise UserError(f"{where} = {shown(found)}: expected one of {', '.join(map(str, choices))}")
    return found


def shown(found: Any) -> str:
    """Returns the repr of a value, shortened if it is long."""
    text = repr(found)
    return text if len(text) <= LONGEST else text[:LONGEST] + "..."
