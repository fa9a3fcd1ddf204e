"""Objectives side by side, on the same recordings, in the same order, for the same steps or work, at several budgets.

Every step is a verb in a process of its own (compared_runs.py). The same call resumes after an interruption, and does
only what is new when objectives, budgets, seeds or tasks are added.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jepa_speech.api.compare_tables import Compared, written
from jepa_speech.api.compared_runs import Comparison, Labelled, Runs
from jepa_speech.api.ladder import ladder_of
from jepa_speech.errors import UsageError
from jepa_speech.local_paths import takes_local_paths
from jepa_speech.lock import LOCK, locked
from jepa_speech.ownership import claim, mark
from jepa_speech.probing import evaluate
from jepa_speech.training.compiled import compiled_once_by_commands
from jepa_speech.training.configfile import PREFIX, Overrides, config_path, imported, load_config, texts_by_key

BASELINES = ("logmel", "logmel5")


@takes_local_paths
def compare(
    config: str | Path,
    inputs: str | Path,
    data: Mapping[str | Path, Sequence[str]],
    out: str | Path,
    *,
    objectives: Sequence[str] | None = None,
    budgets: int | str | Sequence[int | str] | None = None,
    seeds: int | None = None,
    root: str | Path | None = None,
    overrides: Overrides = (),
    progress: bool = False,
) -> dict[str, Any]:
    """Train objectives alike, probe them alike, and put them into one table and one report.

    Args:
        config: a config with ANCHORS, and LADDER if it has a plan, such as "compare_small" or "ladder"
            (configs/compare_small.py and configs/ladder.py say what these are).
        inputs: what all of them train on: a folder or manifest of recordings, without labels.
        data: folders of labelled recordings, each with the tasks that are probed on it.
        out: the folder that gets compare.json, report.html, the results of each finished run, and all runs.
        objectives: variants of the config; default: all of LADDER. The untrained encoder is that of the first one.
        budgets: of each run: steps, or the work of matrix products as text, "3e14FLOP"; or several of one kind.
            Default: those of LADDER.
        seeds: runs of each objective at each budget; default: those of LADDER, or 1 without it.
        root: see `prepare`.
        overrides: keys of the config to change for every objective, as for `load_config`.
        progress: show each command and what it prints. Otherwise `out`/log.txt gets that.

    Returns a dict: `settings`, `training` (by budget and objective: steps, TFLOP and, if it was chosen, the learning
    rate), `learning_rates` (by objective and rate: the first figure on valid), `table` and `differences` (rows of text,
    a header first; 95% intervals).

    Raises UsageError if an argument is wrong or the objectives have different encoders or data, UserError if a step
    fails or a result is of another run, Interrupted if a training was interrupted and saved.
    """
    config, out = str(config), Path(out)
    arguments = [f"{PREFIX}{key}={text}" for key, text in texts_by_key(overrides)]
    ladder = ladder_of(getattr(imported(config_path(config)), "LADDER", None), config, objectives, budgets, seeds)
    chosen = Comparison(
        config=config,
        labelled=checked_tasks(data),
        fits=fits_of(config, ladder.objectives),
        configs={name: load_config(f"{config}:{name}", arguments) for name in ladder.objectives},
        inputs=Path(inputs),
        ladder=ladder,
        root=root,
        overrides=arguments,
    )
    check(chosen)
    for name, kind in (("compare.json", "results"), ("report.html", "report"), ("ladder.png", "picture")):
        claim(out / name, mark(kind))
    with locked(out / LOCK, "compare"), compiled_once_by_commands():
        return run_all(chosen, out, None if progress else out / "log.txt")


def run_all(chosen: Comparison, out: Path, log: Path | None) -> dict[str, Any]:
    """Does all runs that have no results yet, the smallest budget first; returns the tables. log: see `Workflow`."""
    ladder, runs = chosen.ladder, Runs(chosen, out, log)
    first = ladder.objectives[0]
    runs.trained(first, ladder.smallest, 0)
    untrained = [runs.untrained(first, seed) for seed in range(ladder.seeds[ladder.smallest][first])]
    baselines = [Compared(name, "", [runs.baseline(name)]) for name in BASELINES]
    systems = [
        Compared(name, budget, [runs.trained(name, budget, seed) for seed in range(number)])
        for budget, of_each in ladder.seeds.items()
        for name, number in of_each.items()
    ]
    settings = " ".join([f"--budgets {','.join(ladder.seeds)}", *chosen.overrides])
    return written(out, systems, [Compared("random init", "", untrained), *baselines], runs.flows, runs.rates, settings)


def checked_tasks(data: Mapping[str | Path, Sequence[str]]) -> Labelled:
    """Returns the folders with their tasks. Raises UsageError for what is no folder, an unknown or repeated task."""
    found: dict[Path, list[str]] = {}
    for folder, tasks in data.items():
        if not Path(folder).is_dir():
            raise UsageError(f"data: {folder} is no folder")
        before = [task for others in found.values() for task in others]
        found[Path(folder)] = list(evaluate.chosen_tasks(tasks))
        if twice := [task for task in found[Path(folder)] if task in before]:
            raise UsageError(f"data: the task {twice[0]} is asked for on two folders: compare twice")
    return found


def fits_of(config: str, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Returns the arguments of `jepa-speech fit` for each objective, () if it needs no anchor."""
    fits = getattr(imported(config_path(config)), "ANCHORS", {})
    if not isinstance(fits, Mapping) or not all(isinstance(fit, (tuple, list)) for fit in fits.values()):
        raise UsageError(f"{config}: ANCHORS = {fits!r}; write {{NAME: (WORD, ...)}}, as configs/compare_small.py does")
    if missing := [name for name in names if name not in fits]:
        raise UsageError(
            f"{config}: ANCHORS says nothing of {', '.join(missing)}; it has {', '.join(fits) or 'no objective'}: what "
            "`jepa-speech fit` gets for each, () for none (configs/compare_small.py shows how)"
        )
    return {name: tuple(fits[name]) for name in names}


def check(chosen: Comparison) -> None:
    """Raises UsageError if encoders or data differ, or if no task is left at a budget."""
    if not chosen.ladder.tasks(chosen.labelled, chosen.ladder.smallest):
        raise UsageError("data: all tasks are probed at the largest budget only (LADDER): add one for the others")
    first = next(iter(chosen.configs))
    for name, config in chosen.configs.items():
        for section in ("encoder", "data"):
            theirs, ours = asdict(getattr(config, section)), asdict(getattr(chosen.configs[first], section))
            if different := [key for key in theirs.keys() | ours.keys() if theirs.get(key) != ours.get(key)]:
                raise UsageError(
                    f"{chosen.config}: {name} has another {section} than {first} ({', '.join(sorted(different))}): "
                    "`compare` needs the same encoder and data for all objectives"
                )
