"""What `jepa-speech compare` found: two tables, a picture for each figure, and the report that holds them."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from jepa_speech.analysis import report
from jepa_speech.api.workflow import Workflow
from jepa_speech.ownership import write_results
from jepa_speech.probing import evaluate, result_plots
from jepa_speech.probing.bootstrap import Estimate

INTERVALS = "Mean over the runs [95% interval over utterances and runs]; differences are paired over utterances."


class Compared(NamedTuple):
    """What the tables have a row for: an objective at a budget, or a baseline, whose budget is ""."""

    name: str
    budget: str
    runs: Sequence[dict[str, Any]]  # results of each run: `training`, {} of a baseline, and `tasks`

    @property
    def training(self) -> Mapping[str, float]:
        return self.runs[0]["training"]

    def has(self, task: str) -> bool:
        """Whether the task is probed at this budget."""
        return task in self.runs[0]["tasks"]

    def estimate(self, task: str, figure: str) -> Estimate:
        return evaluate.over_runs(self.runs, task, figure)


def written(
    out: Path,
    systems: Sequence[Compared],
    baselines: Sequence[Compared],
    flows: Sequence[Workflow],
    rates: Mapping[str, Mapping[float, float]],
    settings: str,
) -> dict[str, Any]:
    """Writes compare.json, report.html and, if there are several budgets, ladder.png; returns the results.

    rates: objective -> learning rate -> the figure on valid by which it was chosen.
    """
    compared = [*systems, *baselines]
    table, differences = scores(compared), pairs(systems, baselines)
    training: dict[str, dict[str, Any]] = {}
    for one in systems:
        training.setdefault(one.budget, {})[one.name] = one.training
    results = {
        "settings": settings,
        "training": training,
        "learning_rates": {
            name: {f"{rate:g}": value for rate, value in tried.items()} for name, tried in rates.items()
        },
        "table": table,
        "differences": differences,
    }
    write_results(out / "compare.json", results)
    climbing = [
        column for column in figures(compared) if len({one.budget for one in systems if one.has(column[0])}) > 1
    ]
    pictures = [points(systems, baselines, *column) for column in figures(compared) if column not in climbing]
    if climbing:
        pictures.insert(0, ladder(systems, baselines, climbing))
        report.save_figure(out / "ladder.png", pictures[0])
    done = [step for flow in flows for step in flow.steps]
    commands = [("command", "seconds"), *((step["command"], f"{step['seconds']:.0f}") for step in done)]
    sections = [
        report.Section("Result", f"{settings}\n{INTERVALS}", table, pictures),
        report.Section("Differences", INTERVALS, differences),
        report.Section("Commands of the last call", table=commands),
    ]
    report.write(out / "report.html", "jepa-speech compare", sections)
    return results


def figures(compared: Sequence[Compared]) -> list[tuple[str, str]]:
    """(task, figure) of every column."""
    found = {task: part for one in compared for task, part in one.runs[0]["tasks"].items()}
    return [(task, figure) for task, part in found.items() for figure in part["figures"]]


def scores(compared: Sequence[Compared]) -> list[list[str]]:
    """Rows (system, runs, steps, TFLOP, a chosen learning rate, each figure with its interval), a header first."""
    columns = figures(compared)
    chosen = ["learning rate"] if any("learning_rate" in one.training for one in compared) else []
    costs = {"steps": "", "TFLOP": ".3g"} | dict.fromkeys(("learning_rate",) if chosen else (), "g")
    rows = [["system", "runs", "steps", "TFLOP", *chosen, *(f"{task} {figure}, % [95%]" for task, figure in columns)]]
    for one in compared:
        cost = [f"{one.training[key]:{how}}" if one.training else "" for key, how in costs.items()]
        found = [str(one.estimate(task, figure)) if one.has(task) else "" for task, figure in columns]
        rows.append([one.name, str(len(one.runs)), *cost, *found])
    return rows


def pairs(systems: Sequence[Compared], baselines: Sequence[Compared]) -> list[list[str]]:
    """Rows (system, other system or baseline, budget, figures of the first minus the second), a header first."""
    columns = figures([*systems, *baselines])
    rows = [["system", "minus", "budget", *(f"{task} {figure}, points [95%]" for task, figure in columns)]]
    for first, second in both(systems, baselines):
        found = [
            str(evaluate.compare(first.runs, second.runs, task, figure)) if first.has(task) else ""
            for task, figure in columns
        ]
        rows.append([first.name, second.name, first.budget, *found])
    return rows


def both(systems: Sequence[Compared], baselines: Sequence[Compared]) -> Iterator[tuple[Compared, Compared]]:
    """Yields all pairs of systems of one budget, and each system with each baseline."""
    for budget in dict.fromkeys(one.budget for one in systems):
        there = [one for one in systems if one.budget == budget]
        yield from combinations(there, 2)
        yield from ((one, baseline) for one in there for baseline in baselines)


def points(systems: Sequence[Compared], baselines: Sequence[Compared], task: str, figure: str) -> Any:
    """Of a figure at one budget, all systems with their intervals."""
    there = [one for one in (*systems, *baselines) if one.has(task)]
    found = {one.name: one.estimate(task, figure) for one in there}
    return result_plots.systems(found, there[0].runs[0]["tasks"][task], f"{task}, {figure}", figure)


def ladder(systems: Sequence[Compared], baselines: Sequence[Compared], columns: Sequence[tuple[str, str]]) -> Any:
    """Of each figure, a line for each system against its work, and the baselines as bands."""
    panels = []
    for task, figure in columns:
        lines: dict[str, list[tuple[float, Estimate]]] = {}
        for one in systems:
            if one.has(task):
                lines.setdefault(one.name, []).append((one.training["TFLOP"], one.estimate(task, figure)))
        bands = {one.name: one.estimate(task, figure) for one in baselines}
        better = baselines[0].runs[0]["tasks"][task]["figures"][figure]
        panels.append(result_plots.Panel(f"{task}, {figure}", better, lines, bands))
    return result_plots.against_work(panels)
