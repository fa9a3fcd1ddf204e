"""Task `asr`: what is said, in characters. A character that training never shows counts as an error.

The character error rate comes first and chooses: with minutes of texts nearly every word has an error somewhere, so the
word error rate tells little.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jepa_speech import checked
from jepa_speech.probe import transcription as KIND
from jepa_speech.probe.ctc_head import Recipe
from jepa_speech.probe.dataset import Utterance, read_split
from jepa_speech.probe.splits import SPLITS
from jepa_speech.text.errors import character_errors, word_errors
from jepa_speech.text.vocabulary import normal

__all__ = ["FIGURES", "KIND", "RECIPE", "read", "score", "sequence"]

FIGURES = {"cer": "lower", "wer": "lower"}
RECIPE = Recipe()


def read(folder: Path, root: str | Path | None = None) -> dict[str, list[Utterance]]:
    """The splits of a folder with the field `text`."""
    return {split: read_split(folder, split, text_of, root) for split in SPLITS}


def text_of(labels: Mapping[str, Any], where: str) -> str:
    """Returns the normalised text of a row, '' for silence. Raises UserError if it is missing or not text."""
    return normal(checked.field(labels, "text", str, where))


def text_if_any(labels: Mapping[str, Any], where: str) -> str | None:
    """Returns what `text_of` does, and None for a row without a text, or with null."""
    return text_of(labels, where) if "text" in labels else None


def sequence(utterance: Utterance, layers: np.ndarray) -> np.ndarray:
    return layers


def score(reference: str, hypothesis: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Errors and length of the reference, in characters and in words."""
    found = normal("".join(hypothesis))
    return {"cer": character_errors(reference, found), "wer": word_errors(reference, found)}
