"""Classifiers of rows with cross-validation over speakers, for corpora with few speakers.

As in SUPERB with the five sessions of IEMOCAP, every fold is tested on speakers that are not in its training data, and
a fifth of its training utterances is used to choose settings. The manifests' splits are ignored. Results are means over
folds.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jepa_speech.errors import UserError
from jepa_speech.probing import classification
from jepa_speech.probing.inputs import Rows, joined, selected, standardised
from jepa_speech.probing.linear import Recipe
from jepa_speech.probing.progress import QUIET, Bar

FORM = Rows
FOLDS = 5
VALID = 0.2  # share of a fold's training utterances that choose settings


def evaluate(task: Any, data: Mapping[str, Rows], recipe: Recipe, seed: int, bar: Bar = QUIET) -> dict[str, Any]:
    """Returns the mean results over the folds (see classification.py)."""
    everything = joined(list(data.values()))
    folds = [split(everything, tested, seed) for tested in speaker_folds(everything.speakers)]
    return classification.results(folds, recipe, seed, bar)


def speaker_folds(speakers: Sequence[str]) -> list[list[str]]:
    """Returns the test speakers of each fold, neighbours in order of name, which keeps sessions of IEMOCAP together."""
    names = sorted(set(speakers))
    if len(names) < 2:
        raise UserError(f"all recordings are of the speaker {names[0]}; at least two speakers are needed")
    return [part.tolist() for part in np.array_split(names, min(FOLDS, len(names)))]


def split(everything: Rows, tested: Sequence[str], seed: int) -> dict[str, Rows]:
    """Returns a fold: the speakers `tested` are test, the others train and valid. One row per utterance."""
    test = np.isin(everything.speakers, tested)
    others = np.random.default_rng(seed).permutation(np.flatnonzero(~test))
    first = max(1, round(VALID * len(others)))
    parts = {"train": others[first:], "valid": others[:first], "test": np.flatnonzero(test)}
    unknown = sorted({everything.classes[i] for i in set(everything.y[test]) - set(everything.y[parts["train"]])})
    if unknown:
        raise UserError(f"only {' and '.join(tested)} have the label {unknown[0]}, so training has no example of it")
    return standardised({name: selected(everything, np.sort(chosen)) for name, chosen in parts.items()})
