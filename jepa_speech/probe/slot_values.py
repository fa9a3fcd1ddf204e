"""Task `slot_values`: which values were asked for? For corpora that say what was meant and not what was said.

Each slot (size, roast, ...) is classified by itself, "not filled" being one of its values. They stand in the field
`slots_coarse`, where a manifest has it (rare values being merged with others), or else in `slots`.
"""

from pathlib import Path

import numpy as np

from jepa_speech.errors import UserError
from jepa_speech.files import read_jsonl
from jepa_speech.probe import attention as KIND
from jepa_speech.probe.attention import RECIPE
from jepa_speech.probe.dataset import SPLITS, Utterance, check_seen, read_manifest

__all__ = ["KIND", "RECIPE", "read", "sequence"]


def read(folder: Path) -> dict[str, list[Utterance]]:
    """Targets are {slot: value}."""
    paths = {split: folder / f"{split}.manifest.jsonl" for split in SPLITS}
    splits = {}
    field = "slots_coarse" if "slots_coarse" in next(read_jsonl(paths["train"]), {}) else "slots"
    for split, path in paths.items():
        splits[split] = read_manifest(path, field)
        for number, utterance in enumerate(splits[split], 1):
            if not isinstance(utterance.target, dict):
                raise UserError(f"{path}:{number}: '{field}' must be an object of slots and their values")
    check_seen(splits, lambda split, line: f"{paths[split]}:{line}: '{field}'", named)
    return splits


def named(slots: dict[str, str]) -> list[str]:
    return [f"{slot} = {value}" for slot, value in slots.items()]


def sequence(utterance: Utterance, layers: np.ndarray) -> np.ndarray:
    """The layers (L, T, D) as they are."""
    return layers
