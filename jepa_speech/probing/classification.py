"""Linear classifiers of rows (frames or mean vectors): one head per layer, and one on the weighted sum of layers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from jepa_speech.errors import UserError
from jepa_speech.probing import bootstrap
from jepa_speech.probing.at_once import in_order
from jepa_speech.probing.inputs import Rows
from jepa_speech.probing.linear import Fitted, Recipe, fit, predict
from jepa_speech.probing.progress import QUIET, Bar

FORM = Rows
WEIGHTED = "weighted"


class Head(NamedTuple):
    model: Fitted
    predicted: np.ndarray  # (N,) of the test rows


def evaluate(task: Any, data: Mapping[str, Rows], recipe: Recipe, seed: int, bar: Bar = QUIET) -> dict[str, Any]:
    """Returns the results of one task (see evaluate.py), with the confusion matrix of the chosen head."""
    return results([data], recipe, seed, bar)


def results(folds: Sequence[Mapping[str, Rows]], recipe: Recipe, seed: int, bar: Bar = QUIET) -> dict[str, Any]:
    """Returns mean results over folds, each with train, valid and test, and with one head chosen for all folds.

    Counts are weighted so that every fold has the same weight, however many rows it tests.
    """
    if len(folds[0]["train"].classes) < 2:
        raise UserError(f"all recordings have the label {folds[0]['train'].classes[0]}; at least two labels are needed")
    total = len(folds) * len(views(folds[0]["train"].x.shape[1]))
    with bar("classifiers of each layer", total, "head") as shown:
        trained = [heads_of(data, recipe, seed, shown.update) for data in folds]
    valid = {name: float(np.mean([heads[name].model.valid_accuracy for heads in trained])) for name in trained[0]}
    chosen = max(valid, key=valid.__getitem__)
    tests = [data["test"] for data in folds]
    keys = [key for test in tests for key in test.keys]
    size = len(tests[0].classes)
    confusion = np.zeros(size * size, int)
    for test, heads in zip(tests, trained, strict=True):
        confusion += np.bincount(test.y * size + heads[chosen].predicted, minlength=size * size)
    majority = [(data["test"].y == np.bincount(data["train"].y).argmax()).mean() for data in folds]
    models = [heads[WEIGHTED if WEIGHTED in heads else chosen].model for heads in trained]
    return {
        "figures": {"accuracy": "higher"},
        "chosen": chosen,
        "heads": {
            name: {
                "valid": valid[name],
                "figures": {"accuracy": bootstrap.figure(keys, counts(tests, [heads[name] for heads in trained]))},
                "learning_rate": [heads[name].model.learning_rate for heads in trained],
                "decay": [heads[name].model.decay for heads in trained],
            }
            for name in valid
        },
        "layer_weights": np.mean([model.layer_weights for model in models], 0).tolist(),
        "curve": np.mean([heads[chosen].model.curve for heads in trained], 0).tolist(),
        "chance": float(np.mean(majority)),
        "sizes": {split: sum(len(data[split].y) for data in folds) for split in folds[0]},
        "classes": list(tests[0].classes),
        "confusion": confusion.reshape(size, size).tolist(),
    }


def heads_of(
    data: Mapping[str, Rows], recipe: Recipe, seed: int, done: Callable[[], Any] = lambda: None
) -> dict[str, Head]:
    """Trains every head on train, with the settings that are best on valid. done: called after each head."""
    found = views(data["train"].x.shape[1])

    def head(view: slice) -> Head:
        part = {split: replace(rows, x=rows.x[:, view]) for split, rows in data.items()}
        model = fit(part["train"], part["valid"], recipe, seed)
        return Head(model, predict(model, part["test"].x))

    heads = {}
    for name, trained in zip(found, in_order(head, found.values()), strict=True):
        heads[name] = trained
        done()
    return heads


def views(layers: int) -> dict[str, slice]:
    """Returns the names of the heads, and the layers that each reads."""
    return {f"layer {i}": slice(i, i + 1) for i in range(layers)} | ({WEIGHTED: slice(None)} if layers > 1 else {})


def counts(tests: Sequence[Rows], heads: Sequence[Head]) -> np.ndarray:
    """Returns right rows and all rows (U, 2) of the utterances of all folds, with the same weight for every fold."""
    found = []
    for test, head in zip(tests, heads, strict=True):
        right = np.bincount(test.owner, head.predicted == test.y, len(test.keys))
        found.append(np.stack([right, np.bincount(test.owner, minlength=len(test.keys))], axis=1).astype(int))
    if len(found) == 1:
        return found[0]
    mean = np.mean([part[:, 1].sum() for part in found])
    return np.concatenate([part * (mean / part[:, 1].sum()) for part in found])
