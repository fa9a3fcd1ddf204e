"""The type of an entry in `families.py`: how to read and write one model type of transformers."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jepa_speech.huggingface.names import WAV2VEC2_NAMES, Names

NORMALISED = "do_normalize"  # of preprocessor_config.json
Config = Mapping[str, Any]  # a checked config.json
Keys = tuple[tuple[str, str, Any], ...]  # of config section `encoder`, theirs, and transformers' default


def taken(config: Config, keys: Keys) -> dict[str, Any]:
    """Returns the keys of config section `encoder` that a checked config gives."""
    return {ours: config[theirs] for ours, theirs, _ in keys}


def level_of(config: Config) -> dict[str, str]:
    """Returns the level of waves: that of preprocessor_config.json, as `read_folder` adds it to a config."""
    return {"level": "unit" if config.get(NORMALISED, True) else "own"}


class Place(NamedTuple):
    """The value of `key` is the size of an axis of the array `name`, or, without an axis, its number of children."""

    key: str
    name: str
    axis: int | None = None


class Only(NamedTuple):
    """values: the values of a key that can be read, the default first. works: what to do about another value."""

    values: tuple[Any, ...]
    works: str


class Multiple(NamedTuple):
    """The value of `key` must be a multiple of `times` the value of `other`."""

    key: str
    other: str
    times: int = 1


class Family(NamedTuple):
    """One model type.

    architecture: transformers' class of the encoder without heads.
    prefix: of the encoder's arrays in a model with heads.
    objective: the one that training continues with.
    keys: of config section `encoder`.
    more: other keys that are read, and their defaults.
    only: keys that change what the encoder computes, and the values that can be read.
    section: makes config section `encoder` of a checked config.
    places: where the arrays show sizes. multiples: conditions on sizes. names: of arrays.
    heads: arrays outside the encoder that the objective has too, and their paths there.
    nullable: integers that may be null or missing.
    unused: prefixes of arrays that transformers does not compute with.
    extractor: required values in preprocessor_config.json.
    """

    architecture: str
    prefix: str
    objective: str
    keys: Keys
    more: Mapping[str, Any]
    only: Mapping[str, Only]
    section: Callable[[Config], dict[str, Any]]
    places: Callable[[Config], list[Place]]
    multiples: tuple[Multiple, ...]
    names: Names = WAV2VEC2_NAMES
    heads: Mapping[str, tuple[str, ...]] = {}
    nullable: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    extractor: Mapping[str, int] = {}

    @property
    def defaults(self) -> dict[str, Any]:
        """Returns each key that is read and its default, whose type a value must have."""
        return {theirs: default for _, theirs, default in self.keys} | dict(self.more)
