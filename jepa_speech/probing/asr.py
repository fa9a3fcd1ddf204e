"""Task `asr`: speech recognition in characters. A character that is not in the training split counts as an error.

Settings are chosen by the character error rate. With minutes of training data nearly every word has an error, so the
word error rate hardly distinguishes systems.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jepa_speech import checked
from jepa_speech.probing import transcription as KIND
from jepa_speech.probing.ctc_head import Recipe
from jepa_speech.probing.dataset import Utterance, read_split
from jepa_speech.probing.splits import SPLITS
from jepa_speech.text.errors import character_errors, word_errors
from jepa_speech.text.vocabulary import normal

__all__ = ["FIGURES", "KIND", "RECIPE", "read", "score", "sequence"]

FIGURES = {"cer": "lower", "wer": "lower"}
RECIPE = Recipe()


def read(folder: Path, root: str | Path | None = None) -> dict[str, list[Utterance]]:
    """Returns the splits of a folder, with the normalised field `text` as targets."""
    return {split: read_split(folder, split, text_of, root) for split in SPLITS}


def text_of(labels: Mapping[str, Any], where: str) -> str:
    """Returns the normalised text of a row, '' for silence. Raises UserError if it is missing or not a string."""
    return normal(checked.field(labels, "text", str, where))


def text_if_any(labels: Mapping[str, Any], where: str) -> str | None:
    """Like `text_of`, but returns None if a row has no text, or null."""
    return text_of(labels, where) if "text" in labels else None


def sequence(utterance: Utterance, layers: np.ndarray) -> np.ndarray:
    return layers


def score(reference: str, hypothesis: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Returns errors and length of the reference, in characters and in words."""
    found = normal("".join(hypothesis))
    return {"cer": character_errors(reference, found), "wer": word_errors(reference, found)}
