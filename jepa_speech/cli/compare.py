"""jepa-speech compare: objectives side by side, on the same recordings, in the same order, for the same steps or work.

Every step is a verb in a process of its own; the same command goes on after an interruption, and does only what is new
when objectives, seeds or tasks are added.
"""

import argparse
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jepa_speech.anchors.ensemble import open_anchors
from jepa_speech.batches.batch_plan import Plan
from jepa_speech.cli import root_option as root
from jepa_speech.cli.compare_tables import System, written
from jepa_speech.cli.workflow import Workflow, labels_of, probe_files, run_files
from jepa_speech.costs.step_on_paper import mean_step_flops
from jepa_speech.errors import UsageError
from jepa_speech.lock import LOCK, locked
from jepa_speech.objectives import build
from jepa_speech.ownership import claim, mark
from jepa_speech.path_lists import path_and_rest
from jepa_speech.probe import evaluate
from jepa_speech.settings.run_config import RunConfig, plain
from jepa_speech.store.store import Store
from jepa_speech.train.configfile import config_path, imported, load_config
from jepa_speech.train.resolve import with_anchor
from jepa_speech.train.used_lengths import training_lengths

HELP = "train objectives alike, probe them alike, and put them into one table and one report"
EXAMPLE = (
    "jepa-speech compare --config configs/compare_small.py --objectives gmm_jepa,pure_jepa,hubert "
    "--input pretrain.manifest.jsonl --data DIR:phones,speaker --budget 800 --seeds 3 --out runs/compare"
)
BESIDE = ("logmel", "logmel5")
BUDGET = re.compile(r"(\d+)|(\d+(?:\.\d+)?(?:e\+?\d+)?)FLOP")


class Labelled(NamedTuple):
    """A folder of labelled recordings, and the tasks that are probed on it."""

    folder: Path
    tasks: list[str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        required=True,
        metavar="FILE",
        help="such as configs/compare_small.py, or compare_small for the package's own",
    )
    parser.add_argument("--objectives", required=True, metavar="A,B,...", help="variants of the config")
    parser.add_argument("--input", required=True, metavar="DIR|MANIFEST", help="what all train on, unlabelled")
    parser.add_argument(
        "--data", required=True, nargs="+", metavar="DIR[:TASK,...]", help="what is probed on (default task: phones)"
    )
    root.add_argument(parser)
    parser.add_argument(
        "--budget", required=True, metavar="STEPS|nFLOP", help="of each run: 800 steps, or work such as 3e14FLOP"
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="runs of each objective (default: 1)")
    parser.add_argument("--out", required=True, metavar="DIR", help="gets compare.json, report.html and all runs")
    parser.description = f"{parser.description}; --config.KEY=VALUE changes a key for every objective"


def run(args: argparse.Namespace) -> dict[str, Any]:
    names, out = args.objectives.split(","), Path(args.out)
    labelled, fits = labelled_of(args.data), fits_of(args.config, names)
    configs = {name: load_config(f"{args.config}:{name}", args.overrides) for name in names}
    check(args, configs)
    claim(out / "compare.json", mark("results"))
    claim(out / "report.html", mark("report"))
    with locked(out / LOCK, "compare"):
        return compared(args, out, labelled, fits, configs)


def compared(
    args: argparse.Namespace,
    out: Path,
    labelled: Sequence[Labelled],
    fits: Mapping[str, tuple[str, ...]],
    configs: Mapping[str, RunConfig],
) -> dict[str, Any]:
    """Runs all steps and returns their results. fits and configs: by the names of the objectives."""
    names = list(configs)
    shared = Workflow(out / "data")
    store = out / "data" / "store"
    shared.go("prepare", "--input", args.input, *root.passed_on(args.root), "--out", store)
    anchors = {fit: anchored(out, store, fit, shared) for fit in dict.fromkeys(fits.values()) if fit}
    flows, systems = [shared, *(flow for _, flow in anchors.values())], []
    for name in names:
        anchor, before = anchors.get(fits[name], ("", shared))
        training = budgeted(configs[name], store, anchor, args.budget)
        keys = {"data.store": store, "train.steps": training["steps"]} | ({"anchor.path": anchor} if anchor else {})
        changes = [*args.overrides, *(f"--config.{key}={value}" for key, value in keys.items())]
        runs = []
        for seed in range(args.seeds):
            flow = Workflow(out / "runs" / f"{name}-{seed}", [shared, before], args.root)
            workdir = ("--workdir", flow.folder / "run", f"--config.seed={seed}")
            train = ("train", "--config", f"{args.config}:{name}", *workdir, *changes)
            flow.go(*train, given=plain(configs[name]), makes=partial(run_files, flow.folder / "run"))
            system = ("--checkpoint", flow.folder / "run", "--name", f"{name}-{seed}")
            runs.append(probed(flow, labelled, f"{name}-{seed}", *system))
            flows.append(flow)
        systems.append(System(name, training, by_task(runs)))

    flow = Workflow(out / "baselines", [shared], args.root)
    flows.append(flow)
    beside = [System(name, {}, by_task([probed(flow, labelled, name, "--checkpoint", name)])) for name in BESIDE]
    random = ("--checkpoint", "random", "--like", out / "runs" / f"{names[0]}-0" / "run")
    like = plain(configs[names[0]])
    untrained = [
        probed(flow, labelled, f"random-{seed}", *random, "--name", f"random-{seed}", "--seed", seed, given=like)
        for seed in range(args.seeds)
    ]
    systems += [System("random init", {}, by_task(untrained)), *beside]
    return written(out, systems, flows, " ".join([f"--budget {args.budget}", *args.overrides]))


def labelled_of(texts: Sequence[str]) -> list[Labelled]:
    """DIR or DIR:TASK,TASK of each; raises UsageError for an unknown task, one that is asked for twice, no folder."""
    found: list[Labelled] = []
    for text in texts:
        folder, tasks = path_and_rest(text, is_labelled, "--data")
        if not Path(folder).is_dir():
            raise UsageError(f"--data {text}: {folder} is no folder")
        found.append(Labelled(Path(folder), list(evaluate.chosen_tasks((tasks or "phones").split(",")))))
        if twice := [task for task in found[-1].tasks for other in found[:-1] if task in other.tasks]:
            raise UsageError(f"--data {text}: the task {twice[0]} is asked for on two folders: compare twice")
    return found


def is_labelled(folder: str, tasks: str) -> bool:
    """Whether --data FOLDER:TASKS can be read as this folder and these tasks."""
    return Path(folder).is_dir() and (not tasks or set(tasks.split(",")) <= set(evaluate.TASKS))


def fits_of(config: str, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Of each objective, what `jepa-speech fit` is told; () where it needs no anchor."""
    fits = getattr(imported(config_path(config)), "ANCHORS", {})
    if not isinstance(fits, Mapping) or not all(isinstance(fit, (tuple, list)) for fit in fits.values()):
        raise UsageError(f"{config}: ANCHORS = {fits!r}; write {{NAME: (WORD, ...)}}, as configs/compare_small.py does")
    if missing := [name for name in names if name not in fits]:
        raise UsageError(
            f"{config}: ANCHORS says nothing of {', '.join(missing)}; it has {', '.join(fits) or 'no objective'}: what "
            "`jepa-speech fit` is told for each, () for none (configs/compare_small.py shows how)"
        )
    return {name: tuple(fits[name]) for name in names}


def check(args: argparse.Namespace, configs: Mapping[str, RunConfig]) -> None:
    """Raises UsageError for a budget or seeds that are none, and where encoders or data differ."""
    if not BUDGET.fullmatch(args.budget) or float(args.budget.removesuffix("FLOP")) <= 0 or args.seeds < 1:
        raise UsageError(
            f"--budget {args.budget} --seeds {args.seeds}: write --budget 800 or --budget 3e14FLOP, --seeds 3"
        )
    first = next(iter(configs))
    for name, config in configs.items():
        for section in ("encoder", "data"):
            theirs, ours = asdict(getattr(config, section)), asdict(getattr(configs[first], section))
            if different := [key for key in theirs.keys() | ours.keys() if theirs.get(key) != ours.get(key)]:
                raise UsageError(
                    f"{args.config}: {name} has another {section} than {first} ({', '.join(sorted(different))}): "
                    "compared are objectives, on the same encoder and data"
                )


def anchored(out: Path, store: Path, fit: tuple[str, ...], before: Workflow) -> tuple[Path, Workflow]:
    """An anchor, and the store labelled by it."""
    flow = Workflow(out / "anchors" / f"{fit[0]}-{hashlib.sha256(' '.join(fit).encode()).hexdigest()[:6]}", [before])
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
        raise UsageError(f"--budget {budget}: a step of {config.objective.name} takes {work:.3g} FLOP")
    return {"steps": steps, "TFLOP": steps * work / 1e12}


def probed(
    flow: Workflow, labelled: Sequence[Labelled], name: str, *system: Any, given: Any = None
) -> dict[str, dict[str, Any]]:
    """Task -> results of one system."""
    found: dict[str, dict[str, Any]] = {}
    for folder, tasks in labelled:
        where: list[Any] = ["--data", folder, "--tasks", ",".join(tasks), "--out", flow.folder / "probes"]
        where += root.passed_on(flow.root)
        # With several folders, the file of a system's results is that of the last one.
        makes = partial(probe_files, flow.folder / "probes", name if folder == labelled[-1].folder else "")
        results = flow.go("probe", *system, *where, reads=[folder], given=given, makes=makes)
        found |= dict.fromkeys(tasks, results)
    return found


def by_task(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    return {task: [run[task] for run in runs] for task in runs[0]}
