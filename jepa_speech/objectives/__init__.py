"""Objectives: one file per paper. What they share stands in `contract.py`; `build` finds one by its module's name."""

from jepa_speech.objectives.build import build, parsed

__all__ = ["build", "parsed"]
