"""Typed config sections. Unknown keys and values of a wrong type are errors."""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from jepa_speech.errors import UsageError

if typing.TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def from_section(cls: type[T], section: Mapping[str, Any], where: str) -> T:
    """Builds the dataclass `cls` from a config section called `where`.

    Raises UsageError for an unknown or missing key, and for a value of a wrong type.
    """
    if not hasattr(section, "keys"):
        raise UsageError(
            f"config key {where} = {section!r}: must be a section with keys, as `jepa-speech config base` prints it"
        )
    kinds = typing.get_type_hints(cls)
    fields = {field.name: kinds[field.name] for field in dataclasses.fields(cls)}
    for key in section:
        if key not in fields:
            raise unknown_key(f"{where}.{key}", [f"{where}.{name}" for name in fields])
    values = {key: convert(section[key], fields[key], f"{where}.{key}") for key in section}
    missing = [
        field.name
        for field in dataclasses.fields(cls)
        if field.name not in values and field.default is dataclasses.MISSING
    ]
    if missing:
        raise UsageError(f"config key {where}.{missing[0]} is missing; `jepa-speech config base` shows its meaning")
    return cls(**values)


def present(section: T | None, name: str) -> T:
    """Returns the section called `name`. Raises UsageError if the config lacks it."""
    if section is None:
        raise missing_section(name)
    return section


def of_kind(section: object, kind: type[T]) -> T:
    """Returns the section if it is of the dataclass `kind`, and raises UsageError otherwise."""
    if not isinstance(section, kind):
        raise UsageError(f"a config section is a {type(section).__name__}, not a {kind.__name__}")
    return section


def missing_section(name: str) -> UsageError:
    """Returns the error for a missing section."""
    return UsageError(
        f"config section {name} is missing; `jepa-speech config base`, or the objective's config, shows its keys"
    )


LARGEST = 2**17  # largest width, kernel or codebook
DEEPEST = 1000  # most blocks; each takes time to build


def check_sizes(section: Any, where: str, names: Iterable[str], most: int = LARGEST) -> None:
    """Raises UsageError if a size in a typed section called `where` is below 1 or above `most`.

    Without this check, a wrong size may lead to hours of building or to a division by zero.
    """
    for name in names:
        found = getattr(section, name)
        for size in found if isinstance(found, tuple) else (found,):
            if not 1 <= size <= most:
                raise UsageError(f"config key {where}.{name} = {found}: expected 1 to {most:,}")


def unknown_key(key: str, known: Iterable[str]) -> UsageError:
    """Returns the error for an unknown config key, with the most similar known names."""
    near = difflib.get_close_matches(key, list(known), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "`jepa-speech config base` prints the keys"
    return UsageError(f"unknown config key {key}: {hint}")


def convert(value: Any, kind: Any, where: str) -> Any:
    """Returns `value` as `kind`. Integers become floats, lists tuples; other types must match."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and isinstance(value, (list, tuple)):
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        if len(kinds) == len(value):
            return tuple(convert(item, k, where) for item, k in zip(value, kinds, strict=True))
    elif origin is typing.Literal and value in args:
        return value
    elif origin in (typing.Union, types.UnionType) and any(value is None for a in args if a is type(None)):
        return None
    elif kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if math.isfinite(value):
            return float(value)
    elif kind in (int, str, bool) and type(value) is kind:
        return value
    names = " | ".join(map(str, args)) if origin is typing.Literal else getattr(kind, "__name__", str(kind))
    raise UsageError(f"config key {where} = {value!r}: expected {names}")
