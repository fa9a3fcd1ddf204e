"""Task `slot_values`: classification of each slot's value, for corpora that label meaning but not words.

Each slot (size, roast, ...) is classified separately; "not filled" is one of its values. They are in the field
`slots_coarse`, in which rare values are merged, or without that field, in `slots`.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jepa_speech import checked
from jepa_speech.errors import UserError
from jepa_speech.ingest.manifest import entries
from jepa_speech.probing import attention as KIND
from jepa_speech.probing.attention import RECIPE
from jepa_speech.probing.dataset import Utterance, check_seen, read_split
from jepa_speech.probing.splits import SPLITS, manifests_of

__all__ = ["KIND", "RECIPE", "read", "sequence"]


def read(folder: Path, root: str | Path | None = None) -> dict[str, list[Utterance]]:
    """Returns the splits; targets are {slot: value}."""
    listed = entries(manifests_of(folder, "train"), root, anywhere=True)
    field = "slots_coarse" if any("slots_coarse" in entry.labels for entry in listed) else "slots"
    splits = {split: read_split(folder, split, partial(slots_of, field), root) for split in SPLITS}
    check_seen(splits, field, named)
    return splits


def slots_of(field: str, labels: Mapping[str, Any], where: str) -> dict[str, str]:
    """Returns {slot: value} of a row, without slots that are null or "". Raises UserError for other types of values."""
    found = {}
    for slot, value in checked.field(labels, field, dict, where).items():
        if not slot.strip():
            raise UserError(f"{where}: {field}: a slot has no name")
        if value is not None:
            found[slot] = str(checked.field({slot: value}, slot, (str, int), f"{where}: {field}"))
    return {slot: value for slot, value in found.items() if value != KIND.NONE}


def named(slots: dict[str, str]) -> list[str]:
    return [f"{slot} = {value}" for slot, value in slots.items()]


def sequence(utterance: Utterance, layers: np.ndarray) -> np.ndarray:
    """Returns the layers (L, T, D) unchanged."""
    return layers
