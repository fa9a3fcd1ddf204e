"""Heads that classify rows: frames, or utterances by their mean. One per layer, and one on the weighted sum of all."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from jepa_speech.probe import bootstrap
from jepa_speech.probe.inputs import Rows
from jepa_speech.probe.linear import Recipe, fit, predict

FORM = Rows
WEIGHTED = "weighted"


def evaluate(task: Any, data: Mapping[str, Rows], recipe: Recipe, seed: int) -> dict[str, Any]:
    """Results of one task (see evaluate.py), with the confusion matrix of the chosen head."""
    train, test = data["train"], data["test"]
    heads, predictions, models = {}, {}, {}
    for name, view in views(train.x.shape[1]).items():
        part = {split: replace(rows, x=rows.x[:, view]) for split, rows in data.items()}
        model = models[name] = fit(part["train"], part["valid"], recipe, seed)
        predictions[name] = predict(model, part["test"].x)
        heads[name] = {
            "valid": model.valid_accuracy,
            "figures": {"accuracy": bootstrap.figure(test.keys, right_of_all(predictions[name], test))},
            "learning_rate": model.learning_rate,
            "decay": model.decay,
        }
    chosen = max(heads, key=lambda name: heads[name]["valid"])
    size = len(train.classes)
    confusion = np.bincount(test.y * size + predictions[chosen], minlength=size * size).reshape(size, size)
    return {
        "figures": {"accuracy": "higher"},
        "chosen": chosen,
        "heads": heads,
        "layer_weights": models[WEIGHTED if WEIGHTED in models else chosen].layer_weights.tolist(),
        "majority": float((test.y == np.bincount(train.y).argmax()).mean()),
        "sizes": {split: len(rows.y) for split, rows in data.items()},
        "classes": list(train.classes),
        "confusion": confusion.tolist(),
    }


def views(layers: int) -> dict[str, slice]:
    """The heads of a system of so many layers, and which of the layers each reads."""
    return {f"layer {i}": slice(i, i + 1) for i in range(layers)} | ({WEIGHTED: slice(None)} if layers > 1 else {})


def right_of_all(predicted: np.ndarray, rows: Rows) -> np.ndarray:
    """(U, 2): of each utterance, how many rows are right, and how many there are."""
    right = np.bincount(rows.owner, predicted == rows.y, len(rows.keys))
    return np.stack([right, np.bincount(rows.owner, minlength=len(rows.keys))], axis=1).astype(int)
