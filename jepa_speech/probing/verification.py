"""Scores pairs of recordings by the cosine of their vectors. Only the weights of the layers are trained.

The weights are those of a linear classifier of the training split's speakers. The layer, or the weighted sum, is chosen
on the trials of valid.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jepa_speech.probing import bootstrap
from jepa_speech.probing.classification import WEIGHTED, views
from jepa_speech.probing.eer import eer
from jepa_speech.probing.inputs import Rows, Sequences, selected
from jepa_speech.probing.linear import Recipe, fit
from jepa_speech.probing.progress import QUIET, Bar

FORM = Sequences
HELD_OUT = 0.2  # share of the training utterances that choose the settings of the speaker classifier


def evaluate(task: Any, data: Mapping[str, Sequences], recipe: Recipe, seed: int, bar: Bar = QUIET) -> dict[str, Any]:
    """Returns the results of one task (see evaluate.py). Features are (L, 1, D); targets are an utterance's trials.

    The interval of the EER is computed by leaving out all trials of an utterance. Trials of one utterance are
    correlated: resampling single trials would make intervals half as wide as they should be.
    """
    vectors = {split: np.stack(part.features)[:, :, 0] for split, part in data.items()}  # (U, L, D)
    layers = vectors["train"].shape[1]
    weights = {name: np.eye(layers)[view][0] for name, view in views(layers).items() if name != WEIGHTED}
    if layers > 1:
        with bar("weights of layers", 1, "head") as shown:
            weights[WEIGHTED] = learned_weights(vectors["train"], data["train"], recipe, seed)
            shown.update()
    heads: dict[str, Any] = {}
    with bar("trials of each layer", len(weights), "head") as shown:
        for name, weight in weights.items():
            valid, _ = rates(vectors["valid"], weight, data["valid"])
            value, without = rates(vectors["test"], weight, data["test"])
            counts = bootstrap.influences(value, without)
            shown.update()
            heads[name] = {"valid": valid, "figures": {"EER": bootstrap.figure(data["test"].keys, counts, linear=True)}}
    chosen = min(heads, key=lambda name: heads[name]["valid"])
    return {
        "figures": {"EER": "lower"},
        "chosen": chosen,
        "heads": heads,
        "layer_weights": weights[WEIGHTED if WEIGHTED in weights else chosen].tolist(),
        "chance": 0.5,
        "sizes": {split: sum(map(len, data[split].targets)) for split in ("valid", "test")},
    }


def learned_weights(vectors: np.ndarray, train: Sequences, recipe: Recipe, seed: int) -> np.ndarray:
    """Returns the layer weights (L,) of a classifier of the training speakers, vectors (U, L, D)."""
    classes, y = np.unique(train.speakers, return_inverse=True)
    rows = Rows(vectors, y, np.arange(len(y)), train.keys, tuple(classes), train.speakers)
    order = np.random.default_rng(seed).permutation(len(y))
    first = max(1, round(HELD_OUT * len(y)))
    held_out, others = (selected(rows, np.sort(part)) for part in (order[:first], order[first:]))
    return fit(others, held_out, recipe, seed).layer_weights


def rates(vectors: np.ndarray, weight: np.ndarray, data: Sequences) -> tuple[float, np.ndarray]:
    """Returns the EER of a split, and its values without each utterance (U,). vectors (U, L, D), weight (L,)."""
    x = np.einsum("uld,l->ud", vectors, weight)
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    number = {key: i for i, key in enumerate(data.keys)}
    trials = [(i, number[key], same) for i, target in enumerate(data.targets) for key, same in target]
    first, second, same = (np.array(column) for column in zip(*trials, strict=True))
    scores = np.einsum("nd,nd->n", x[first], x[second])
    value, without = eer(scores, same), []
    for utterance in range(len(x)):
        others = (first != utterance) & (second != utterance)
        both = same[others].any() and not same[others].all()
        without.append(eer(scores[others], same[others]) if both else value)
    return value, np.array(without)
