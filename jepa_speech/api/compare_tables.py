"""What `jepa-speech compare` found: two tables, a picture for each figure, and the report that holds them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jepa_speech.analysis import report
from jepa_speech.api.workflow import Workflow
from jepa_speech.ownership import write_results
from jepa_speech.probing import evaluate, result_plots

INTERVALS = "Mean over the runs [95% interval over utterances and runs]; differences are paired over utterances."


class Compared(NamedTuple):
    """What the tables have a row for: an objective, or a baseline."""

    name: str
    training: dict[str, float]  # steps, and work in TFLOP; {} of what is not trained
    probes: dict[str, list[dict[str, Any]]]  # task -> results of `jepa-speech probe`, one for each run


def written(out: Path, compared: Sequence[Compared], flows: Sequence[Workflow], settings: str) -> dict[str, Any]:
    """Writes compare.json and report.html; returns the results. The first one is compared with the others."""
    table, differences = scores(compared), minus_others(compared)
    results = {
        "settings": settings,
        "training": {one.name: one.training for one in compared if one.training},
        "table": table,
        "differences": differences,
    }
    write_results(out / "compare.json", results)
    done = [step for flow in flows for step in flow.steps]
    commands = [("command", "seconds"), *((step["command"], f"{step['seconds']:.0f}") for step in done)]
    sections = [
        report.Section("Result", f"{settings}\n{INTERVALS}", table, pictures(compared)),
        report.Section(f"{compared[0].name} minus the others", INTERVALS, differences),
        report.Section("What was run", table=commands),
    ]
    report.write(out / "report.html", "jepa-speech compare", sections)
    return results


def figures(compared: Sequence[Compared]) -> list[tuple[str, str]]:
    """(task, figure) of every column."""
    first = compared[0].probes
    return [(task, figure) for task, probes in first.items() for figure in probes[0]["tasks"][task]["figures"]]


def scores(compared: Sequence[Compared]) -> list[list[str]]:
    """Rows (system, runs, steps, TFLOP, each figure with its interval), a header first."""
    columns = figures(compared)
    rows = [["system", "runs", "steps", "TFLOP", *(f"{task} {figure}, % [95%]" for task, figure in columns)]]
    for name, training, probes in compared:
        cost = [f"{training['steps']}", f"{training['TFLOP']:.3g}"] if training else ["", ""]
        found = [str(evaluate.over_runs(probes[task], task, figure)) for task, figure in columns]
        rows.append([name, str(len(probes[columns[0][0]])), *cost, *found])
    return rows


def minus_others(compared: Sequence[Compared]) -> list[list[str]]:
    """Rows (other system, the first one's figures minus its), a header first."""
    first, *others = compared
    columns = figures(compared)
    rows = [[f"{first.name} minus", *(f"{task} {figure}, points [95%]" for task, figure in columns)]]
    for other in others:
        pairs = [(first.probes[task], other.probes[task], task, figure) for task, figure in columns]
        rows.append([other.name, *(str(evaluate.compare(*pair)) for pair in pairs)])
    return rows


def pictures(compared: Sequence[Compared]) -> list[Any]:
    """Of each figure, all systems with their intervals."""
    drawn = []
    for task, figure in figures(compared):
        part = compared[0].probes[task][0]["tasks"][task]
        found = {one.name: evaluate.over_runs(one.probes[task], task, figure) for one in compared}
        drawn.append(result_plots.systems(found, part, f"{task}, {figure}", figure))
    return drawn
