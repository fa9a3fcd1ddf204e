"""From a config to an objective, by the name of its module: adding one needs no edit here."""

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

import jepa_speech.objectives
from jepa_speech.anchors.anchor import Anchor
from jepa_speech.anchors.ensemble import Ensemble
from jepa_speech.errors import UsageError
from jepa_speech.objectives.contract import Objective

NOT_OBJECTIVES = ("build", "contract", "collapse", "masked", "anchored", "contrastive", "self_distilled")


def names() -> list[str]:
    """Every objective: the modules of this folder."""
    modules = pkgutil.iter_modules(jepa_speech.objectives.__path__)
    return sorted(module.name for module in modules if module.name not in NOT_OBJECTIVES)


def build(config: Mapping[str, Any], anchor: Anchor | Ensemble | None = None) -> Objective:
    """The objective that `config.objective.name` names; raises UsageError for an unknown one.

    `anchor` is needed to train with `anchor.source = "online"`; a checkpoint brings its own.
    """
    if not hasattr(config["objective"], "keys"):
        raise UsageError(f"config key objective = {config['objective']!r}: a section with keys is needed")
    name = config["objective"]["name"]
    if name not in names():
        raise UsageError(f"config key objective.name = {name!r}: known are {', '.join(names())}")
    module = importlib.import_module(f"jepa_speech.objectives.{name}")
    return module.build(config, anchor)
