"""Reading of results files written by `jepa-speech probe`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jepa_speech import checked
from jepa_speech.errors import UsageError, UserError
from jepa_speech.files import read_object
from jepa_speech.probing.bootstrap import Estimate

NUMBER = (int, float)
Saved = str | Path | Mapping[str, Any]  # results of a probe, or their file


def results_of(saved: Saved) -> dict[str, Any]:
    """Returns the results as they are, or those of a file as `read_results` does."""
    return dict(saved) if isinstance(saved, Mapping) else read_results(saved)


def read_results(path: str | Path) -> dict[str, Any]:
    """Returns the results of `evaluate.probe`. Raises UserError or UsageError, naming the file, if it has others."""
    results = read_object(path)
    try:
        tasks = checked.field(results, "tasks", dict, "results")
        checked.field(results, "name", str, "results")
        for task, part in tasks.items():
            _check_task(part, task)
        if not tasks:
            raise UserError("results: has no tasks")
    except UserError as error:
        reason = f"not a results file of this version of `jepa-speech probe` ({error})"
        raise UsageError(f"{path}: {reason}; probe again") from error
    return results


def _check_task(part: Any, task: str) -> None:
    figures, heads = (checked.field(part, name, dict, task) for name in ("figures", "heads"))
    for name in figures:
        checked.field(figures, name, str, f"{task}: figures", choices=("lower", "higher"))
    if not figures:
        raise UserError(f"{task}: has no figures")
    checked.field(part, "chosen", str, task, choices=heads)
    checked.field(part, "chance", NUMBER, task, default=0)
    for head, values in heads.items():
        if type(checked.field({"": values}, "", dict, f"{task}: {head}").get("valid")) not in NUMBER:  # NaN: no rate
            raise UserError(f"{task}: {head}: its figure on valid is not a number")
        found = checked.field(values, "figures", dict, f"{task}: {head}")
        for name in figures:
            _check_figure(checked.field(found, name, dict, f"{task}: {head}"), f"{task}: {head}: {name}")
    _check_table(part.get("layer_weights", []), 1, f"{task}: layer_weights")
    _check_table(part.get("curve", []), 2, f"{task}: curve")
    if "confusion" in part:
        classes = len(checked.field(part, "classes", list, task))
        if np.shape(_check_table(part["confusion"], 2, f"{task}: confusion")) != (classes, classes):
            raise UserError(f"{task}: the confusion matrix does not have {classes} rows and columns")


def _check_figure(figure: Mapping[str, Any], where: str) -> None:
    for name in Estimate._fields:
        if name not in figure:
            raise UserError(f"{where}: the field {name} is missing")
        if figure[name] is not None:  # None means NaN
            checked.field(figure, name, NUMBER, where)
    counts = checked.field(figure, "counts", dict, where, default={"": [0, 0]})  # only comparisons need them
    if np.shape(_check_table(list(counts.values()), 2, f"{where}: counts"))[1:] != (2,):
        raise UserError(f"{where}: counts must have a pair for each recording")


def _check_table(rows: Any, depth: int, where: str) -> Any:
    """Returns `rows`, lists of numbers nested `depth` deep and of equal length, as an array."""
    try:
        table = np.array(rows, np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where} must be rows of numbers") from error
    if table.size and table.ndim != depth:
        raise UserError(f"{where} has shape {table.shape}")
    return rows
