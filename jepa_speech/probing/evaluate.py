"""Runs a probe: extracts features, trains heads on every layer and on their weighted sum, computes intervals.

A task (TASKS; extract.py: Task) reads labelled recordings and takes inputs from their layers; its KIND is the head that
learns from them. A kind is a module with FORM, the form of its inputs (inputs.py: Rows for classifiers, Sequences for
heads that need whole utterances), and

    evaluate(task, data: {split: FORM}, recipe: task.RECIPE, seed, bar) -> results of the task, plain JSON values

All kinds return

    figures    {"accuracy": "higher"}: the figures and which direction is better; the first one chooses settings
    heads      name ("layer 0", ..., "weighted") -> `valid`, the first figure on valid; the chosen settings; and
               `figures`: name -> value, low, high on test, and `counts`, utterance -> [a, b] with value = Σa / Σb
               (bootstrap.figure makes it; None if all references are empty)
    chosen     the head that is best on valid
    sizes      split -> number of rows or utterances
    test       (added by `probe_features`) the figures of the chosen head: name -> value, low, high

and, if they have them, for the table and plots.py

    chance          the first figure of a constant answer: the commonest class of training, or 1/2
    layer_weights   (L,) of the weighted sum
    classes, confusion    of the chosen head: (C,), and (C, C) with true classes as rows
    curve           of the chosen head: rows [step, first figure on valid]
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from jepa_speech.errors import UsageError, UserError
from jepa_speech.partial import Pieces
from jepa_speech.probing import abx, asr, asv, bootstrap, phones, pooled, pr, slot_values, slots
from jepa_speech.probing.cache import Cache
from jepa_speech.probing.classification import WEIGHTED
from jepa_speech.probing.extract import Extract, Listed, Task, gather
from jepa_speech.probing.progress import bars

TASKS: dict[str, Task] = {
    "phones": phones,
    "speaker": pooled.SPEAKER,
    "keywords": pooled.KEYWORDS,
    "intent": pooled.INTENT,
    "emotion": pooled.EMOTION,
    "slot_values": slot_values,
    "asv": asv,
    "abx": abx,
    "asr": asr,
    "pr": pr,
    "slots": slots,
}

Results = dict[str, Any]


def chosen_tasks(names: Sequence[str]) -> dict[str, Task]:
    unknown = [name for name in names if name not in TASKS]
    if unknown or not names:
        raise UsageError(f"unknown task {', '.join(unknown) or '(none)'}: choose from {', '.join(TASKS)}")
    return {name: TASKS[name] for name in names}


def probe_features(
    name: str,
    extract: Extract,
    folder: str | Path,
    tasks: Sequence[str] = ("phones",),
    seed: int = 0,
    recipes: Mapping[str, Any] | None = None,
    progress: bool = True,
    cache: Cache | None = None,
    kept: Pieces | None = None,
    root: str | Path | None = None,
    at_once: int = 1,
) -> Results:
    """Probes one system on the recordings of `folder`; returns plain JSON values (see above).

    recipes: replace the tasks' own, by task. cache: saves the features of this system. kept: saves the results of each
    finished task (of one system, seed and recipes). root: see `ingest.manifest.entries`. at_once: see `gather`. Raises
    UserError for bad data, UsageError for an unknown task.
    """
    chosen = chosen_tasks(tasks)
    recipes = {task: module.RECIPE for task, module in chosen.items()} | dict(recipes or {})
    splits = {task: module.read(Path(folder), root) for task, module in chosen.items()}
    stamps = {task: stamp_of(listed) for task, listed in splits.items()}
    results = {task: row for task in chosen if kept and (row := kept.row(task, stamps[task])) is not None}
    left = {task: module for task, module in chosen.items() if task not in results}
    data = gather(left, Path(folder), extract, progress, cache, splits, at_once)
    for task, module in left.items():
        try:
            results[task] = module.KIND.evaluate(module, data.pop(task), recipes[task], seed, bars(task, progress))
        except UserError as error:
            raise UserError(f"{folder}: {task}: {error}") from error
        if kept:
            kept.add(task, stamps[task], results[task])
    return {
        "name": name,
        "data": Path(folder).name,
        "seed": seed,
        "recipe": {task: asdict(recipes[task]) for task in chosen},
        "tasks": {task: {"test": on_test(results[task]), **results[task]} for task in chosen},
    }


def on_test(part: Results) -> Results:
    """The figures of the chosen head, without counts."""
    figures = part["heads"][part["chosen"]]["figures"]
    return {name: {key: figure[key] for key in bootstrap.Estimate._fields} for name, figure in figures.items()}


def stamp_of(splits: Listed) -> tuple[str]:
    """Returns a digest of the recordings and labels."""
    digest = hashlib.sha256()
    for split, utterances in splits.items():
        for u in utterances:
            digest.update(
                repr((split, u.key, u.entry.identity(), u.entry.stamp, u.target, u.speaker)).encode(
                    "utf-8", "backslashreplace"
                )
            )
    return (digest.hexdigest(),)


def best(part: Results, heads: Sequence[str]) -> str:
    """Returns the head that is best on valid, the first of equals."""
    better = min if next(iter(part["figures"].values())) == "lower" else max
    return better(heads, key=lambda head: part["heads"][head]["valid"])


def figure_of(results: Results, task: str, figure: str | None = None) -> Results:
    """Returns a figure of the chosen head, by default the first. Raises UserError if the results lack the task."""
    if task not in results["tasks"]:
        raise UserError(f"the results of {results['name']} lack the task {task}: probe it for that task, too")
    part = results["tasks"][task]
    if "figures" not in part:
        raise UserError(f"the results of {results['name']} are of an earlier version: probe it again")
    return part["heads"][part["chosen"]]["figures"][figure or next(iter(part["figures"]))]


def estimate(results: Results, task: str, figure: str | None = None) -> bootstrap.Estimate:
    """Returns a figure of the chosen head on test, with its interval."""
    return bootstrap.estimate_of(figure_of(results, task, figure))


def over_runs(runs: Sequence[Results], task: str, figure: str | None = None) -> bootstrap.Estimate:
    """Returns the mean of a figure over runs (seeds); the interval covers the choice of utterances and of runs."""
    tables = [_counts(results, task, figure) for results in runs]
    counts = np.array([[table[key] for key in sorted(tables[0])] for table in tables])  # (R, U, 2)
    return bootstrap.paired(counts, counts[:1] * [0, 1], linear=is_linear(runs[0], task, figure))  # avoids a ratio of 0


def compare(
    ours: Sequence[Results], theirs: Sequence[Results], task: str, figure: str | None = None
) -> bootstrap.Estimate:
    """Returns a figure of one system minus that of another, on the same test utterances and with the chosen heads.

    Several results of a system are its runs (seeds). Raises UserError if a task is missing or utterances differ.
    """
    runs = (*ours, *theirs)
    tables = [_counts(results, task, figure) for results in runs]
    keys = sorted(tables[0])
    for results, table in zip(runs, tables, strict=True):
        if sorted(table) != keys:
            raise UserError(f"{results['name']} and {ours[0]['name']} were not tested on the same recordings")
    counts = np.array([[table[key] for key in keys] for table in tables])  # (R, U, 2)
    return bootstrap.paired(counts[: len(ours)], counts[len(ours) :], linear=is_linear(ours[0], task, figure))


def is_linear(results: Results, task: str, figure: str | None) -> bool:
    """Whether a figure's counts are bootstrap.influences."""
    return figure_of(results, task, figure).get("linear", False)


def table(results: Sequence[Results]) -> list[list[str]]:
    """Returns rows (system, task, head, figure, value in % with interval, chance), with a header."""
    rows = [["system", "task", "features", "figure", "% [95%]", "chance, %"]]
    for result in results:
        for task, part in result["tasks"].items():
            layers = [head for head in part["heads"] if head != WEIGHTED]
            shown = [best(part, layers)] if layers else []
            for head in dict.fromkeys([*shown, WEIGHTED]):
                for number, figure in enumerate(part["figures"] if head in part["heads"] else ()):
                    mark = " *" if len(part["heads"]) > 1 and head == part["chosen"] else ""
                    of = head if head == WEIGHTED or len(layers) == 1 else f"best single: {head}"
                    value = str(bootstrap.estimate_of(part["heads"][head]["figures"][figure]))
                    chance = f"{100 * part['chance']:.1f}" if "chance" in part and not number else ""
                    rows.append([result["name"], task, of + mark, figure, value, chance])
    return rows


def text(rows: Sequence[Sequence[str]]) -> str:
    """Formats a table as aligned plain text."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _counts(results: Results, task: str, figure: str | None) -> dict[str, Any]:
    """Returns the counts of each recording. Raises UserError if the results have none."""
    if (found := figure_of(results, task, figure).get("counts")) is None:
        raise UserError(f"the results of {results['name']} have no counts of recordings for {task}: probe it again")
    return found
