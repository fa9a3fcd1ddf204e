"""A probe from recordings to results: features, one classifier per layer and one on the weighted sum, intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from jepa_speech.errors import UsageError, UserError
from jepa_speech.probe import bootstrap, phones, speaker
from jepa_speech.probe.extract import Extract, Rows, gather
from jepa_speech.probe.linear import RECIPE, Fitted, Recipe, fit, predict

TASKS = {"phones": phones, "speaker": speaker}
WEIGHTED = "weighted"

Results = dict[str, Any]


def chosen_tasks(names: Sequence[str]) -> dict[str, Any]:
    unknown = [name for name in names if name not in TASKS]
    if unknown or not names:
        raise UsageError(f"unknown task {', '.join(unknown) or '(none)'}: choose from {', '.join(TASKS)}")
    return {name: TASKS[name] for name in names}


def probe(
    name: str,
    extract: Extract,
    folder: str | Path,
    tasks: Sequence[str] = ("phones",),
    seed: int = 0,
    recipe: Recipe = RECIPE,
    progress: bool = True,
) -> Results:
    """Probes one system on the recordings of `folder`; returns plain JSON values.

    results["tasks"][task] holds: `heads`, by name ("layer 0", ..., and "weighted" where there are several layers),
    each with its accuracy on test, interval (low, high), accuracy on valid, settings, and `counts`: utterance ->
    [right, all] on test; `chosen`, the head that is best on valid; of the chosen head the `confusion` (C, C), rows
    the truth; `layer_weights` (L,); `classes`; `majority`, the score of always answering the commonest class of
    training. Raises UserError for bad data, UsageError for an unknown task.
    """
    data = gather(chosen_tasks(tasks), Path(folder), extract, progress)
    results = {task: evaluate(rows, recipe, seed) for task, rows in data.items()}
    return {"name": name, "data": Path(folder).name, "seed": seed, "recipe": asdict(recipe), "tasks": results}


def evaluate(data: Mapping[str, Rows], recipe: Recipe, seed: int) -> Results:
    """One task: trains every head on train, chooses on valid, scores on test."""
    train, test = data["train"], data["test"]
    layers = train.x.shape[1]
    views = {f"layer {i}": slice(i, i + 1) for i in range(layers)}
    if layers > 1:
        views[WEIGHTED] = slice(None)
    heads, predictions, models = {}, {}, {}
    for name, view in views.items():
        part = {split: replace(rows, x=rows.x[:, view]) for split, rows in data.items()}
        models[name] = fit(part["train"], part["valid"], recipe, seed)
        predictions[name] = predict(models[name], part["test"].x)
        heads[name] = scored(models[name], predictions[name], test)
    chosen = max(heads, key=lambda name: heads[name]["valid"])
    size = len(train.classes)
    confusion = np.bincount(test.y * size + predictions[chosen], minlength=size * size).reshape(size, size)
    return {
        "chosen": chosen,
        "heads": heads,
        "layer_weights": models[WEIGHTED if layers > 1 else chosen].layer_weights.tolist(),
        "majority": float((test.y == np.bincount(train.y).argmax()).mean()),
        "rows": {split: len(rows.y) for split, rows in data.items()},
        "classes": list(train.classes),
        "confusion": confusion.tolist(),
    }


def scored(model: Fitted, predicted: np.ndarray, test: Rows) -> Results:
    counts = np.stack(
        [
            np.bincount(test.owner, predicted == test.y, len(test.keys)),
            np.bincount(test.owner, minlength=len(test.keys)),
        ],
        axis=1,
    ).astype(int)  # (U, 2)
    estimate = bootstrap.accuracy(counts)
    return {
        **estimate._asdict(),
        "valid": model.valid_accuracy,
        "learning_rate": model.learning_rate,
        "decay": model.decay,
        "counts": dict(zip(test.keys, counts.tolist(), strict=True)),
    }


def estimate(results: Results, task: str) -> bootstrap.Estimate:
    """The test accuracy of the head chosen on valid, with its interval."""
    head = results["tasks"][task]["heads"][results["tasks"][task]["chosen"]]
    return bootstrap.Estimate(head["value"], head["low"], head["high"])


def compare(ours: Sequence[Results], theirs: Sequence[Results], task: str) -> bootstrap.Estimate:
    """Accuracy of one system minus another's over the same test utterances, each by its chosen head.

    Several results of a system are its runs (seeds). Raises UserError if a task or the utterances do not match.
    """
    tables = []
    for results in (*ours, *theirs):
        if task not in results["tasks"]:
            raise UserError(f"the results of {results['name']} lack the task {task}: probe it with --tasks {task}")
        part = results["tasks"][task]
        tables.append(part["heads"][part["chosen"]]["counts"])
    keys = sorted(tables[0])
    for results, table in zip((*ours, *theirs), tables, strict=True):
        if sorted(table) != keys:
            raise UserError(f"{results['name']} and {ours[0]['name']} were not tested on the same recordings")
    counts = np.array([[table[key] for key in keys] for table in tables])  # (R, U, 2)
    return bootstrap.paired(counts[: len(ours)], counts[len(ours) :])


def table(results: Sequence[Results]) -> list[list[str]]:
    """Rows (system, task, head, accuracy in % with interval), a header first."""
    rows = [["system", "task", "features", "accuracy, % [95%]", "majority, %"]]
    for result in results:
        for task, part in result["tasks"].items():
            layers = [head for head in part["heads"] if head != WEIGHTED]
            best = max(layers, key=lambda head: part["heads"][head]["valid"])
            for head in dict.fromkeys([best, WEIGHTED]):
                if head in part["heads"]:
                    values = part["heads"][head]
                    text = str(bootstrap.Estimate(values["value"], values["low"], values["high"]))
                    mark = " *" if len(layers) > 1 and head == part["chosen"] else ""
                    of = head if head == WEIGHTED or len(layers) == 1 else f"best single: {head}"
                    rows.append([result["name"], task, of + mark, text, f"{100 * part['majority']:.1f}"])
    return rows


def text(rows: Sequence[Sequence[str]]) -> str:
    """A table as aligned plain text."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
