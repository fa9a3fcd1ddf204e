"""The runs of `compare`: each is trained and probed by commands, unless a file of its results stands for it."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from jepa_speech.anchors.ensemble import open_anchors
from jepa_speech.api import finished
from jepa_speech.api.ladder import Ladder
from jepa_speech.api.workflow import Workflow, labels_of, probe_files, run_files
from jepa_speech.batches.batch_plan import Plan
from jepa_speech.costs.step_on_paper import mean_step_flops
from jepa_speech.errors import UsageError
from jepa_speech.objectives import build
from jepa_speech.settings.run_config import RunConfig, kinds_of, plain
from jepa_speech.store.store import Store
from jepa_speech.training.configfile import PREFIX, load_config
from jepa_speech.training.resolve import with_anchor
from jepa_speech.training.used_lengths import training_lengths

Labelled = Mapping[Path, Sequence[str]]
Results = dict[str, Any]
UNTRAINED = "baselines"  # in place of the budget


@dataclass(frozen=True)
class Comparison:
    """The arguments of `compare`, checked. overrides: as arguments of the command."""

    config: str
    configs: dict[str, RunConfig]  # by objective
    fits: dict[str, tuple[str, ...]]  # of each objective, the arguments of `fit`
    inputs: Path
    labelled: Labelled
    ladder: Ladder
    root: str | Path | None
    overrides: list[str]


class Runs:
    """The results of every run. A run that has none yet is trained and probed when it is asked for.

    All results are dicts with `name`, `training` (steps, TFLOP and, if it was chosen, learning_rate; {} of baselines)
    and `tasks`, as `jepa-speech probe` has them. flows: the workflows of this call. log: see `Workflow`.
    """

    def __init__(self, chosen: Comparison, out: Path, log: Path | None) -> None:
        self.chosen, self.out, self.log = chosen, out, log
        self.shared, self.store = Workflow(out / "data", log=log), out / "data" / "store"
        root = ["--root", chosen.root] if chosen.root else []
        prepared = self.shared.go("prepare", "--input", chosen.inputs, *root, "--out", self.store)
        self.fingerprint: str = prepared["fingerprint"]
        digests = {folder: finished.digest_of(folder, chosen.root) for folder in chosen.labelled}
        self.data = {task: digests[folder] for folder, tasks in chosen.labelled.items() for task in tasks}
        self.flows = [self.shared]
        self.anchors: dict[tuple[str, ...], tuple[Path | str, Workflow]] = {(): ("", self.shared)}
        self.rates: dict[str, dict[float, float]] = {}  # objective -> learning rate -> figure on valid, the best first

    def trained(self, name: str, budget: str, seed: int) -> Results:
        """Returns the results of one run, at the learning rate that is best for its objective if there are several."""
        if not self.chosen.ladder.learning_rates:
            return self.trained_at(name, budget, seed)
        if name not in self.rates:
            self.rates[name] = self.tried(name)
        return self.trained_at(name, budget, seed, next(iter(self.rates[name])))

    def tried(self, name: str) -> dict[float, float]:
        """Returns the first figure on valid of each learning rate, the best first: seed 0 at the smallest budget."""
        ladder = self.chosen.ladder
        task = ladder.tasks(self.chosen.labelled, ladder.smallest)[0]
        trials = {rate: self.trained_at(name, ladder.smallest, 0, rate) for rate in ladder.learning_rates}
        parts = {rate: trial["tasks"][task] for rate, trial in trials.items()}
        found = {rate: part["heads"][part["chosen"]]["valid"] for rate, part in parts.items()}
        higher = next(iter(parts[ladder.learning_rates[0]]["figures"].values())) == "higher"
        return dict(sorted(found.items(), key=lambda item: item[1], reverse=higher))

    def trained_at(self, name: str, budget: str, seed: int, rate: float | None = None) -> Results:
        config, label = self.config(name, rate), labelled_as(name, seed, rate)

        def make(labelled: Labelled) -> Results:
            flow, training = self.run(name, budget, seed, rate)
            tasks = probed(flow, labelled, label, "--checkpoint", flow.folder / "run", "--name", label)
            return {"training": training | ({"learning_rate": rate} if rate else {}), "tasks": tasks}

        of_all = {"config": plain(config), "fit": [*self.chosen.fits[name]], "store": self.fingerprint}
        return self.results(budget, label, of_all | {"budget": budget, "seed": seed}, kinds_of(config), make)

    def run(self, name: str, budget: str, seed: int, rate: float | None) -> tuple[Workflow, dict[str, float]]:
        """Trains a run in OUT/runs/BUDGET/LABEL/run, unless it is there; returns its workflow, steps and TFLOP."""
        anchor, before = self.anchored(self.chosen.fits[name])
        flow, config = self.flow(budget, labelled_as(name, seed, rate), before), self.config(name, rate)
        training = budgeted(config, self.store, anchor, budget)
        keys = {"seed": seed, "data.store": self.store, "train.steps": training["steps"]}
        keys |= {"anchor.path": anchor} if anchor else {}
        settings = [*(f"{PREFIX}{key}={value}" for key, value in keys.items()), *self.changes(rate)]
        train = ("train", "--config", f"{self.chosen.config}:{name}", "--workdir", flow.folder / "run", *settings)
        flow.go(*train, given=plain(config), makes=partial(run_files, flow.folder / "run"))
        return flow, training

    def config(self, name: str, rate: float | None) -> RunConfig:
        return load_config(f"{self.chosen.config}:{name}", self.changes(rate))

    def changes(self, rate: float | None) -> list[str]:
        return [*self.chosen.overrides, *([f"{PREFIX}optim.learning_rate={rate!r}"] if rate else [])]

    def untrained(self, name: str, seed: int) -> Results:
        """Returns the results of the untrained encoder of an objective, of which `trained` has been asked."""
        config, label = self.chosen.configs[name], f"random-{name}-{seed}"
        rate, smallest = next(iter(self.rates.get(name, ())), None), self.chosen.ladder.smallest
        run = self.out / "runs" / smallest / labelled_as(name, 0, rate) / "run"
        source = ("--checkpoint", "random", "--like", run, "--seed", seed, "--name", label)

        def make(labelled: Labelled) -> Results:
            if all(flow.folder != run.parent for flow in self.flows):  # a file of its results stood for it
                self.run(name, smallest, 0, rate)
            flow = self.flow(UNTRAINED, label, self.shared)
            return {"training": {}, "tasks": probed(flow, labelled, label, *source, given=plain(config))}

        made_from = {"checkpoint": "random", "config": plain(config), "seed": seed}
        return self.results(UNTRAINED, label, made_from, kinds_of(config), make)

    def baseline(self, name: str) -> Results:
        """Returns the results of a baseline of `jepa-speech probe`."""

        def make(labelled: Labelled) -> Results:
            flow = self.flow(UNTRAINED, name, self.shared)
            return {"training": {}, "tasks": probed(flow, labelled, name, "--checkpoint", name)}

        return self.results(UNTRAINED, name, {"checkpoint": name}, {}, make)

    def results(
        self,
        group: str,
        label: str,
        made_from: Mapping[str, Any],
        sections: Mapping[str, type],
        make: Callable[[Labelled], Results],
    ) -> Results:
        """Returns the results in OUT/results/GROUP/LABEL.json, after `make` of the tasks that it lacks."""
        path = self.out / "results" / group / f"{label}.json"
        found = finished.read(path, made_from, sections)
        tasks = self.chosen.ladder.tasks(self.chosen.labelled, None if group == UNTRAINED else group)
        left = [task for task in tasks if found["data"].get(task) != self.data[task]]
        if left:
            folders = {folder: [task for task in its if task in left] for folder, its in self.chosen.labelled.items()}
            made = make({folder: its for folder, its in folders.items() if its})
            parts = {task: finished.trimmed(part) for task, part in made["tasks"].items()}
            found = {
                "training": made["training"],
                "data": found["data"] | {task: self.data[task] for task in left},
                "tasks": found["tasks"] | parts,
            }
            finished.write(path, made_from, found)
        return {
            "name": label,
            "training": found["training"],
            "tasks": {task: found["tasks"][task] for task in tasks},
        }

    def flow(self, group: str, label: str, before: Workflow) -> Workflow:
        """A new workflow in OUT/runs/GROUP/LABEL."""
        flow = Workflow(self.out / "runs" / group / label, [self.shared, before], self.chosen.root, self.log)
        self.flows.append(flow)
        return flow

    def anchored(self, fit: tuple[str, ...]) -> tuple[Path | str, Workflow]:
        """An anchor, by which the store is labelled, and its workflow; "" without `fit`."""
        if fit not in self.anchors:
            digest = hashlib.sha256(" ".join(fit).encode()).hexdigest()[:6]
            flow = Workflow(self.out / "anchors" / f"{fit[0]}-{digest}", [self.shared], log=self.log)
            path = flow.folder / "anchor.npz"
            named = [Path(word) for word in fit if Path(word).exists()]  # a checkpoint, say
            flow.go("fit", *fit, "--store", self.store, "--out", path, reads=named, makes=lambda results: [path])
            flow.go("label", "--store", self.store, "--anchor", path, makes=labels_of)
            self.anchors[fit] = path, flow
            self.flows.append(flow)
        return self.anchors[fit]


def labelled_as(name: str, seed: int, rate: float | None) -> str:
    return f"{name}-{seed}" if rate is None else f"{name}-lr{rate:g}-{seed}"


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


def probed(flow: Workflow, labelled: Labelled, name: str, *source: Any, given: Any = None) -> Results:
    """Task -> its part of the results of probing one source of features: --checkpoint and its options."""
    found: Results = {}
    *_, last = labelled
    for folder, tasks in labelled.items():
        where: list[Any] = ["--data", folder, "--tasks", ",".join(tasks), "--out", flow.folder / "probes"]
        where += ["--root", flow.root] if flow.root else []
        # With several folders, the file of its results is that of the last one.
        makes = partial(probe_files, flow.folder / "probes", name if folder == last else "")
        results = flow.go("probe", *source, *where, reads=[folder], given=given, makes=makes)
        found |= {task: results["tasks"][task] for task in tasks}
    return found
