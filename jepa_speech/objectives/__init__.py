"""The objectives: each other file of this folder is one, and its name is the objective's name.

What several objectives share is in `objective_parts/`.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from jepa_speech.anchors.anchor import Anchor
from jepa_speech.anchors.ensemble import Ensemble
from jepa_speech.config import convert, from_section, missing_section, unknown_key
from jepa_speech.errors import UsageError
from jepa_speech.nn.build_encoder import encoder_kind
from jepa_speech.objective_parts.contract import Objective
from jepa_speech.settings.run_config import KINDS, RunConfig

NEEDED = ("encoder", "mask", "mixing", "objective", "train")


def names() -> list[str]:
    """The names of all objectives: the modules of this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def parsed(config: Mapping[str, Any]) -> RunConfig:
    """The typed config of what a config file, or a run's config.json, holds.

    Raises UsageError for a key that nothing reads, a value of a wrong type or size, and a section that is missing.
    """
    known = [*KINDS, "encoder", "objective"]
    for key in config:
        if key not in known:
            raise unknown_key(key, known)
    for name in NEEDED:
        if name not in config:
            raise missing_section(name)
    kinds = section_kinds(config)
    return RunConfig(
        **{
            key: convert(value, kinds[key], key) if kinds[key] in (int, str) else from_section(kinds[key], value, key)
            for key, value in config.items()
        }
    )


def section_kinds(config: Mapping[str, Any]) -> dict[str, type]:
    """The dataclass that reads each section: the objective's own, the encoder's by its name, and all others'."""
    own = module_of(name_in(config, "objective")).SECTIONS
    encoder = {} if "encoder" in own else {"encoder": encoder_kind(name_in(config, "encoder"))}
    return KINDS | encoder | own


def name_in(config: Mapping[str, Any], section: str) -> Any:
    """The key `name` of a section; raises UsageError where there is none."""
    if not hasattr(config[section], "keys"):
        raise UsageError(
            f"config key {section} = {config[section]!r}: a section with keys is needed, as `jepa-speech config base` "
            "prints it"
        )
    if "name" not in config[section]:
        raise UsageError(f"config key {section}.name is missing; `jepa-speech config base` shows its meaning")
    return config[section]["name"]


def module_of(name: Any) -> ModuleType:
    """The module of the objective of this name; raises UsageError for an unknown one."""
    if name not in names():
        raise UsageError(f"config key objective.name = {name!r}: known are {', '.join(names())}")
    return importlib.import_module(f"jepa_speech.objectives.{name}")


def build(config: RunConfig, anchor: Anchor | Ensemble | None = None) -> Objective:
    """The objective that `config.objective.name` names.

    `anchor` is needed to train with `anchor.source = "online"`; a checkpoint brings its own. Raises UsageError where
    sections contradict each other.
    """
    return module_of(config.objective.name).build(config, anchor)
