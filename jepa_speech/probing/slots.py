"""Task `slots`: slot filling (SUPERB's SF). Characters are transcribed, with marks at the start and end of each slot.

    turn the <room living room room> light on

Slot-type F1 and slot-value CER are defined as in s3prl. The former is the F1 of an utterance's set of slot types,
averaged over utterances. The latter compares each value of the reference with the nearest value found for its type, or
with an empty one.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jepa_speech import checked
from jepa_speech.errors import UserError
from jepa_speech.probing import transcription as KIND
from jepa_speech.probing.ctc_head import Recipe
from jepa_speech.probing.dataset import Utterance, check_seen, read_split
from jepa_speech.probing.splits import SPLITS
from jepa_speech.text.errors import character_errors
from jepa_speech.text.vocabulary import normal
from jepa_speech.wording import counted

__all__ = ["FIGURES", "KIND", "RECIPE", "read", "score", "sequence"]

FIGURES = {"slot_type_f1": "higher", "slot_value_cer": "lower"}
RECIPE = Recipe()


def read(folder: Path, root: str | Path | None = None) -> dict[str, list[Utterance]]:
    """Returns the splits of a folder with the fields `text` and `slot_tags`: O, B-SLOT or I-SLOT for each word."""
    splits = {split: read_split(folder, split, target_of, root) for split in SPLITS}
    check_seen(splits, "slot_tags", marks)
    return splits


def target_of(labels: Mapping[str, Any], where: str) -> tuple[str, ...]:
    text, tags = checked.field(labels, "text", str, where), checked.field(labels, "slot_tags", list, where)
    return marked(text, tags, where)


def marked(text: str, tags: Sequence[str], where: str) -> tuple[str, ...]:
    """Returns the characters and marks of a text. Raises UserError unless each word has a tag."""
    words = [normal(word) for word in text.split()]
    if len(tags) != len(words):
        counts = f"{counted(len(tags), 'tag')} for {counted(len(words), 'word')}"
        raise UserError(f"{where}: slot_tags has {counts}; give each word one")
    symbols: list[str] = []
    for number, (word, tag) in enumerate(zip(words, tags, strict=True)):
        kind, _, slot = tag.partition("-") if isinstance(tag, str) else ("", "", "")
        if kind not in ("O", "B", "I") or (kind == "O") == bool(slot) or slot.isspace():
            raise UserError(f"{where}: slot_tags: {checked.shown(tag)} is not O, B-SLOT or I-SLOT")
        begins = bool(slot) and (kind == "B" or number == 0 or tags[number - 1][2:] != slot)
        ends = bool(slot) and (number + 1 == len(tags) or tags[number + 1] != f"I-{slot}")
        symbols += [" "] * (number > 0) + [f"<{slot}"] * begins + list(word) + [f"{slot}>"] * ends
    return tuple(symbols)


def marks(symbols: Sequence[str]) -> list[str]:
    return [symbol for symbol in symbols if is_mark(symbol)]


def is_mark(symbol: str) -> bool:
    return len(symbol) > 1


def values(symbols: Sequence[str]) -> dict[str, list[str]]:
    """Returns slot -> its values: the characters between a slot's start mark and the next end mark."""
    found: dict[str, list[str]] = {}
    for place, symbol in enumerate(symbols):
        if is_mark(symbol) and symbol.startswith("<"):
            slot, rest = symbol[1:], symbols[place + 1 :]
            if f"{slot}>" in rest:
                inside = rest[: list(rest).index(f"{slot}>")]
                found.setdefault(slot, []).append(normal("".join(s for s in inside if not is_mark(s))))
    return found


def sequence(utterance: Utterance, layers: np.ndarray) -> np.ndarray:
    return layers


def score(reference: Sequence[str], hypothesis: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Returns F1 of the types and 1; errors and length of the values."""
    truth, found = values(reference), values(hypothesis)
    types = len(truth) + len(found)
    f1 = 2 * len(truth.keys() & found.keys()) / types if types else 1.0
    errors = length = 0
    for slot, wanted in truth.items():
        for value in wanted:
            nearest = min((character_errors(value, other) for other in found.get(slot, [""])), key=lambda e: e[0])
            errors, length = errors + nearest[0], length + nearest[1]
    return {"slot_type_f1": (f1, 1), "slot_value_cer": (errors, length)}
