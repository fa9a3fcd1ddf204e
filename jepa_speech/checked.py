"""Values that come from a file, checked where they enter: arrays for shape, type, finiteness and sign; JSON fields."""

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
    """Returns `value`, an array of the given shape (None: any size), all finite, none below `least`, all above `above`.

    kind: numpy's letters for its type, "f" floating point, "iu" integers, "U" text.
    where: names the file and the array in the message. Raises UserError.
    """
    found = np.asarray(value)
    if found.dtype.kind not in kind:
        raise UserError(
            f"{where} has type {found.dtype}, not {NAMES.get(kind, kind)}: the file is damaged or no such file"
        )
    if found.ndim != len(shape) or any(n is not None and n != m for n, m in zip(shape, found.shape, strict=True)):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise UserError(f"{where} has shape {found.shape}, not ({wanted}): the file is damaged or no such file")
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        raise UserError(f"{where} holds NaN or infinite values: the file is damaged; make it again")
    if least is not None and found.size and found.min() < least:
        raise UserError(f"{where} holds {found.min():g}, less than {least:g}: the file is damaged; make it again")
    if above is not None and found.size and found.min() <= above:
        raise UserError(f"{where} holds {found.min():g}, not above {above:g}: the file is damaged; make it again")
    return found


NAMES = {"f": "floating point", "iu": "integer", "U": "text"}


def field(row: Any, name: str, kind: type | tuple[type, ...], where: str) -> Any:
    """Returns row[name], of the type `kind`. A bool is no number, and neither are NaN and infinities.

    where: names the file, and the line if there are several. Raises UserError.
    """
    wanted = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
    if not isinstance(row, Mapping):
        raise UserError(f"{where}: a JSON object was expected, not {type(row).__name__}")
    if row.get(name) is None:
        raise UserError(f"{where}: the field {name} is missing")
    value = row[name]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"{where}: {name} = {value!r}: expected {wanted}")
    if number and not np.isfinite(value):
        raise UserError(f"{where}: {name} = {value!r}: expected a finite number")
    return value
