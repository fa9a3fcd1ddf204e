"""Where speakers are few: classifiers of rows that leave speakers out in turn. The result is the mean over the folds.

As SUPERB does with the five sessions of IEMOCAP: every fold tests on speakers that it has not seen, and a fifth of its
training utterances chooses the settings. Which split a recording stands in does not matter here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jepa_speech.errors import UserError
from jepa_speech.probe import classification
from jepa_speech.probe.inputs import Rows, joined, selected, standardised
from jepa_speech.probe.linear import Recipe
from jepa_speech.probe.progress import QUIET, Bar

FORM = Rows
FOLDS = 5
VALID = 0.2  # of a fold's training utterances


def evaluate(task: Any, data: Mapping[str, Rows], recipe: Recipe, seed: int, bar: Bar = QUIET) -> dict[str, Any]:
    """Results over the folds (see classification.py)."""
    everything = joined(list(data.values()))
    folds = [split(everything, tested, seed) for tested in speaker_folds(everything.speakers)]
    return classification.results(folds, recipe, seed, bar)


def speaker_folds(speakers: Sequence[str]) -> list[list[str]]:
    """The speakers that each fold tests: neighbours in order of name, which keeps the sessions of IEMOCAP together."""
    names = sorted(set(speakers))
    if len(names) < 2:
        raise UserError(f"all recordings are of the speaker {names[0]}: it takes two to leave one out")
    return [part.tolist() for part in np.array_split(names, min(FOLDS, len(names)))]


def split(everything: Rows, tested: Sequence[str], seed: int) -> dict[str, Rows]:
    """The recordings of the speakers `tested`, and the others, drawn into train and valid. One row an utterance."""
    test = np.isin(everything.speakers, tested)
    others = np.random.default_rng(seed).permutation(np.flatnonzero(~test))
    first = max(1, round(VALID * len(others)))
    parts = {"train": others[first:], "valid": others[:first], "test": np.flatnonzero(test)}
    unknown = sorted({everything.classes[i] for i in set(everything.y[test]) - set(everything.y[parts["train"]])})
    if unknown:
        raise UserError(f"only {' and '.join(tested)} have the label {unknown[0]}: nobody is left to learn it from")
    return standardised({name: selected(everything, np.sort(chosen)) for name, chosen in parts.items()})
