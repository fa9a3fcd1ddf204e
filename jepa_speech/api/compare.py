"""Objectives side by side, on the same recordings, in the same order, for the same steps or work.

Every step is a verb in a process of its own; the same call resumes after an interruption, and does only what is new
when objectives, seeds or tasks are added.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from jepa_speech.anchors.ensemble import open_anchors
from jepa_speech.api.compare_tables import Compared, written
from jepa_speech.api.workflow import Workflow, labels_of, probe_files, run_files
from jepa_speech.batches.batch_plan import Plan
from jepa_speech.costs.step_on_paper import mean_step_flops
from jepa_speech.errors import UsageError
from jepa_speech.lock import LOCK, locked
from jepa_speech.objectives import build
from jepa_speech.ownership import claim, mark
from jepa_speech.probing import evaluate
from jepa_speech.settings.run_config import RunConfig, plain
from jepa_speech.store.store import Store
from jepa_speech.training.configfile import PREFIX, Overrides, config_path, imported, load_config, texts_by_key
from jepa_speech.training.resolve import with_anchor
from jepa_speech.training.used_lengths import training_lengths

BASELINES = ("logmel", "logmel5")
BUDGET = re.compile(r"(\d+)|(\d+(?:\.\d+)?(?:e\+?\d+)?)FLOP")
Labelled = Mapping[Path, Sequence[str]]


@dataclass(frozen=True)
class Comparison:
    """The arguments of `compare`, checked. overrides: as arguments of the command."""

    config: str
    configs: dict[str, RunConfig]  # by objective
    fits: dict[str, tuple[str, ...]]  # of each objective, the arguments of `fit`
    inputs: Path
    labelled: Labelled
    budget: str
    root: str | Path | None
    seeds: int
    overrides: list[str]


def compare(
    config: str | Path,
    objectives: Sequence[str],
    inputs: str | Path,
    data: Mapping[str | Path, Sequence[str]],
    budget: int | str,
    out: str | Path,
    *,
    root: str | Path | None = None,
    seeds: int = 1,
    overrides: Overrides = (),
    progress: bool = False,
) -> dict[str, Any]:
    """Train objectives alike, probe them alike, and put them into one table and one report.

    Args:
        config: a config with ANCHORS, such as "compare_small" (configs/compare_small.py says what that is).
        objectives: variants of the config. The first one is compared with each other one.
        inputs: what all of them train on: a folder or manifest of recordings, without labels.
        data: folders of labelled recordings, each with the tasks that are probed on it.
        budget: of each run: steps, or the work of matrix products as text, "3e14FLOP".
        out: the folder that gets compare.json, report.html and all runs.
        root: see `prepare`.
        seeds: runs of each objective.
        overrides: keys of the config to change for every objective, as for `load_config`.
        progress: show each command and what it prints. Otherwise `out`/log.txt gets that.

    Returns a dict: `settings`, `training` (steps and TFLOP by objective), `table` and `differences` (rows of text, a
    header first; 95% intervals).

    Raises UsageError if an argument is wrong or the objectives have different encoders or data, UserError if a step
    fails, Interrupted if a training was interrupted and saved.
    """
    config, out = str(config), Path(out)
    arguments = [f"{PREFIX}{key}={text}" for key, text in texts_by_key(overrides)]
    chosen = Comparison(
        config=config,
        labelled=checked_tasks(data),
        fits=fits_of(config, objectives),
        configs={name: load_config(f"{config}:{name}", arguments) for name in objectives},
        inputs=Path(inputs),
        budget=str(budget),
        root=root,
        seeds=seeds,
        overrides=arguments,
    )
    check(chosen)
    claim(out / "compare.json", mark("results"))
    claim(out / "report.html", mark("report"))
    with locked(out / LOCK, "compare"):
        return run_all(chosen, out, None if progress else out / "log.txt")


def run_all(chosen: Comparison, out: Path, log: Path | None) -> dict[str, Any]:
    """Runs all steps and returns their results. log: see `Workflow`."""
    names, root = list(chosen.configs), ["--root", chosen.root] if chosen.root else []
    shared = Workflow(out / "data", log=log)
    store = out / "data" / "store"
    shared.go("prepare", "--input", chosen.inputs, *root, "--out", store)
    fits = dict.fromkeys(fit for fit in chosen.fits.values() if fit)
    anchors = {fit: anchored(out, store, fit, shared) for fit in fits}
    flows, compared = [shared, *(flow for _, flow in anchors.values())], []
    for name in names:
        anchor, before = anchors.get(chosen.fits[name], ("", shared))
        training = budgeted(chosen.configs[name], store, anchor, chosen.budget)
        keys = {"data.store": store, "train.steps": training["steps"]} | ({"anchor.path": anchor} if anchor else {})
        changes = [*chosen.overrides, *(f"{PREFIX}{key}={value}" for key, value in keys.items())]
        runs = []
        for seed in range(chosen.seeds):
            flow = Workflow(out / "runs" / f"{name}-{seed}", [shared, before], chosen.root, log)
            workdir = ("--workdir", flow.folder / "run", f"{PREFIX}seed={seed}")
            train = ("train", "--config", f"{chosen.config}:{name}", *workdir, *changes)
            flow.go(*train, given=plain(chosen.configs[name]), makes=partial(run_files, flow.folder / "run"))
            source = ("--checkpoint", flow.folder / "run", "--name", f"{name}-{seed}")
            runs.append(probed(flow, chosen.labelled, f"{name}-{seed}", *source))
            flows.append(flow)
        compared.append(Compared(name, training, by_task(runs)))

    flow = Workflow(out / "baselines", [shared], chosen.root, log)
    flows.append(flow)
    baselines = [
        Compared(name, {}, by_task([probed(flow, chosen.labelled, name, "--checkpoint", name)])) for name in BASELINES
    ]
    random = ("--checkpoint", "random", "--like", out / "runs" / f"{names[0]}-0" / "run")
    like = plain(chosen.configs[names[0]])
    untrained = [
        probed(flow, chosen.labelled, f"random-{seed}", *random, "--name", f"random-{seed}", "--seed", seed, given=like)
        for seed in range(chosen.seeds)
    ]
    compared += [Compared("random init", {}, by_task(untrained)), *baselines]
    return written(out, compared, flows, " ".join([f"--budget {chosen.budget}", *chosen.overrides]))


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
    """Raises UsageError if the budget or the seeds are invalid, or if encoders or data differ."""
    budget, seeds = chosen.budget, chosen.seeds
    if not BUDGET.fullmatch(budget) or float(budget.removesuffix("FLOP")) <= 0 or seeds < 1:
        raise UsageError(f"budget = {budget}, seeds = {seeds}: write 800 (steps) or 3e14FLOP, and at least 1 seed")
    first = next(iter(chosen.configs))
    for name, config in chosen.configs.items():
        for section in ("encoder", "data"):
            theirs, ours = asdict(getattr(config, section)), asdict(getattr(chosen.configs[first], section))
            if different := [key for key in theirs.keys() | ours.keys() if theirs.get(key) != ours.get(key)]:
                raise UsageError(
                    f"{chosen.config}: {name} has another {section} than {first} ({', '.join(sorted(different))}): "
                    "`compare` needs the same encoder and data for all objectives"
                )


def anchored(out: Path, store: Path, fit: tuple[str, ...], before: Workflow) -> tuple[Path, Workflow]:
    """An anchor, and the store labelled by it."""
    flow = Workflow(
        out / "anchors" / f"{fit[0]}-{hashlib.sha256(' '.join(fit).encode()).hexdigest()[:6]}", [before], log=before.log
    )
    path = flow.folder / "anchor.npz"
    named = [Path(word) for word in fit if Path(word).exists()]  # a checkpoint, say
    flow.go("fit", *fit, "--store", store, "--out", path, reads=named, makes=lambda results: [path])
    flow.go("label", "--store", store, "--anchor", path, makes=labels_of)
    return path, flow


def budgeted(config: RunConfig, store: Path, anchor: str | Path, budget: str) -> dict[str, float]:
    """Steps of a run, and its work in TFLOP: all matrix products, those of teacher and heads too."""
    opened = open_anchors(str(anchor)) if anchor else None
    config = with_anchor(replace(config, anchor=replace(config.anchor, path=str(anchor))), opened)
    data = config.data
    objective = build(config, opened)
    layout = data.buckets, data.batch_seconds, config.seed
    lengths = training_lengths(objective, data)
    plan = Plan(Store(store).samples, *layout, windows=data.windows, lengths=lengths)
    work = mean_step_flops(config, objective, plan)
    steps = int(float(budget.removesuffix("FLOP")) / work) if budget.endswith("FLOP") else int(budget)
    if steps < 1:
        raise UsageError(f"budget = {budget}: a step of {config.objective.name} takes {work:.3g} FLOP")
    return {"steps": steps, "TFLOP": steps * work / 1e12}


def probed(flow: Workflow, labelled: Labelled, name: str, *source: Any, given: Any = None) -> dict[str, dict[str, Any]]:
    """Task -> results of probing one source of features: --checkpoint and its options."""
    found: dict[str, dict[str, Any]] = {}
    *_, last = labelled
    for folder, tasks in labelled.items():
        where: list[Any] = ["--data", folder, "--tasks", ",".join(tasks), "--out", flow.folder / "probes"]
        where += ["--root", flow.root] if flow.root else []
        # With several folders, the file of its results is that of the last one.
        makes = partial(probe_files, flow.folder / "probes", name if folder == last else "")
        results = flow.go("probe", *source, *where, reads=[folder], given=given, makes=makes)
        found |= dict.fromkeys(tasks, results)
    return found


def by_task(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    return {task: [run[task] for run in runs] for task in runs[0]}
