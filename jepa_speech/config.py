"""Typed views of a config's sections. A key nobody reads and a value of the wrong type are errors."""

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

    Raises UsageError for an unknown key, a missing one, and a value of the wrong type.
    """
    if not hasattr(section, "keys"):
        raise UsageError(
            f"config key {where} = {section!r}: a section with keys is needed, as `jepa-speech config base` prints it"
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
    """The section called `name`; raises UsageError where the config has none."""
    if section is None:
        raise missing_section(name)
    return section


def of_kind(section: object, kind: type[T]) -> T:
    """The section, which in a parsed config is of this dataclass. Raises UsageError if it is of another."""
    if not isinstance(section, kind):
        raise UsageError(f"a config section is a {type(section).__name__}, and {kind.__name__} is needed")
    return section


def missing_section(name: str) -> UsageError:
    """The error for a section that a config lacks."""
    return UsageError(
        f"config section {name} is missing; `jepa-speech config base`, or the objective's config, shows its keys"
    )


LARGEST = 2**17  # of a width, a kernel or a codebook
DEEPEST = 1000  # blocks; building takes time for each


def check_sizes(section: Any, where: str, names: Iterable[str], most: int = LARGEST) -> None:
    """Raises UsageError where a size in a typed section called `where` is below 1 or above `most`.

    Without this check, a wrong size leads to hours of building or a division by zero.
    """
    for name in names:
        found = getattr(section, name)
        for size in found if isinstance(found, tuple) else (found,):
            if not 1 <= size <= most:
                raise UsageError(f"config key {where}.{name} = {found}: expected 1 to {most:,}")


def unknown_key(key: str, known: Iterable[str]) -> UsageError:
    """The error for a config key that nobody reads, with the nearest known names."""
    near = difflib.get_close_matches(key, list(known), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "`jepa-speech config base` prints the keys"
    return UsageError(f"unknown config key {key}: {hint}")


def convert(value: Any, kind: Any, where: str) -> Any:
    """`value` as `kind`: whole numbers may stand for floats, lists for tuples; anything else must match."""
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
