"""The training loop. Its order is a contract:

next(data) → dispatch step N → write row N-1 → held-out loss and probe of state N where they are due, write row N → at a
save step: write row N, fsync, save → asked to stop?

State N is the state after N updates, and the plan position saved with it is N. The same command resumes from the newest
whole checkpoint (`first_state` in restore.py) and ends bit-identical to a run that was never stopped.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jepa_speech.errors import Interrupted, UsageError
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.objective_parts.contract import Objective
from jepa_speech.progress import say_if
from jepa_speech.settings.run_config import RunConfig, kinds_of
from jepa_speech.settings.training import TrainConfig
from jepa_speech.training.checkpoint import Checkpoints, read_weights
from jepa_speech.training.chips import chip_of
from jepa_speech.training.compiled import compilation_cache_of, compile_step
from jepa_speech.training.evaluation import HELDOUT, Evaluations, Heldout, Probe
from jepa_speech.training.from_step import go_back
from jepa_speech.training.ledger import Clock, process_began
from jepa_speech.training.loggers.chosen import Loggers, check_installed
from jepa_speech.training.metrics import Bar, Rates, RunLog
from jepa_speech.training.optim import learning_rate, make_optimizer
from jepa_speech.training.places import moved, places
from jepa_speech.training.restore import Weights, first_state
from jepa_speech.training.run_folder import run_folder
from jepa_speech.training.run_json import claim_workdir
from jepa_speech.training.sentinel import Sentinel, check_trained
from jepa_speech.training.sharding import make_mesh, place_batch, replicated
from jepa_speech.training.state import abstract_state
from jepa_speech.training.step import make_step
from jepa_speech.training.stop import Stop
from jepa_speech.training.watchdog import Watchdog

if TYPE_CHECKING:
    from jepa_speech.batches.pipeline import Batches  # which loads grain

Batch = dict[str, np.ndarray]


def train(
    config: RunConfig,
    objective: Objective,
    batches: "Callable[[int, int], Batches]",
    workdir: str | Path,
    heldout: Heldout | None = None,
    weights: Weights = read_weights,
    from_step: int | None = None,
    header: str = "",
    notes: Mapping[str, Any] = MappingProxyType({}),
    progress: bool = False,
    probe: Probe | None = None,
    upload: Callable[[bool], None] | None = None,
) -> dict[str, Any]:
    """Trains until step `train.steps`, from the newest checkpoint in `workdir` if there is one.

    config: seed, init_from, optim, train and mesh are read here; all of it is written to config.json.
    batches(start, stop): this process's rows of those items of the plan.
    heldout(): this process's rows of the held-out batches. The row of every checkpoint has their loss as heldout_loss.
    weights: how to read what `init_from` names.
    from_step: resume from this checkpoint rather than the newest (see `go_back`).
    header: shown once the first step can begin, so that a refusal is the only thing that is shown. A resumed run shows
        its step as well.
    notes: further fields of the first event of this attempt in events.jsonl.
    progress: whether process 0 shows the header, further lines and a bar on stderr.
    probe(params, aux_state): figures of the representation, for the rows of the steps that `train.probe_every` names.
        All processes call it at the same steps.

    upload(may_fail): called when a checkpoint is whole, to copy the run folder elsewhere. With it, each process has a
        run folder of its own, and only that of process 0 gets checkpoints and metrics.

    Returns the last step, its metrics, and the number of compiled steps. Raises Interrupted once a signal
    came and the state is saved, UserError when the loss stays not finite, when the representation has collapsed and
    `train.collapse` is stop, or when `workdir` is another run's, another program's, or another process writes there.
    """
    workdir, process = Path(workdir), jax.process_index()
    if process == 0:
        check_installed(config.train.loggers)
    settings, mesh = config.train, make_mesh(config.mesh)
    progress = progress and process == 0
    say = say_if(progress)
    optimizer = make_optimizer(config.optim)
    abstract = abstract_state(objective, optimizer, config.seed, mesh, config.mesh.rules)
    shardings = jax.tree.map(lambda s: s.sharding, abstract)
    step = jax.jit(
        make_step(
            objective,
            optimizer,
            learning_rate(config.optim, settings.steps),
            settings.report_due,
            settings.accumulate,
            shardings,
        ),
        donate_argnums=0,
        out_shardings=(shardings, replicated(mesh)),
    )

    with ExitStack() as stack:
        stack.enter_context(run_folder(workdir, "train", writes=process == 0))
        older = claim_workdir(workdir, config, kinds_of(config), writes=process == 0)
        if from_step is not None:
            go_back(workdir, from_step, say)
        kept = settings.keep, settings.keep_every, settings.best
        checkpoints = stack.enter_context(Checkpoints(workdir, *kept, shared=upload is None))
        start = checkpoints.latest or 0
        checkpoints.check()  # before any row is cut
        log = stack.enter_context(closing(RunLog(workdir, start, process, say)))
        if settings.best.startswith(HELDOUT) and not heldout:
            raise UsageError(f"config key train.best = {settings.best!r} needs a store in data.heldout")
        if start >= settings.steps:
            check_trained(log.last.get("skipped") or 0, start)
            return {"step": start, "finished_before": True, "compiled": 0} | log.last
        stack.enter_context(compilation_cache_of(workdir))
        state = first_state(
            objective, optimizer, config.seed, config.init_from, abstract, checkpoints, log, weights, say
        )
        resumed = f"resumes from step {start} of {settings.steps}{moved(log.earlier, places())}" if start else ""
        for line in (older, header, resumed):
            if line:
                say(line)

        bar = stack.enter_context(closing(Bar(start, settings.steps, progress)))
        stack.enter_context(jax.transfer_guard("disallow"))
        data = stack.enter_context(closing(batches(start, settings.steps)))
        watchdog = stack.enter_context(
            Watchdog(settings.watchdog_seconds, workdir, process, start, settings.stop_seconds)
        )
        sentinel = Sentinel(settings.max_skipped, settings.collapse, log, bar.say, log.past())
        loggers = stack.enter_context(closing(Loggers(config, workdir, start, log.past, bar.say, writes=process == 0)))
        log.begin(start, process_began(), places(), notes)
        rates = Rates(jax.device_count(), chip_of(jax.devices()[0].device_kind))
        clock, compiled, work, pending, values = Clock(start), {}, {}, None, {}
        rows = Rows(settings, log, loggers, bar, rates, clock, sentinel)
        evaluations = Evaluations(settings, objective, mesh, heldout, probe, clock, watchdog, bar.say)
        for number in range(start + 1, settings.steps + 1):
            asked = time.monotonic()
            batch = next(data)
            waited = clock.waited(asked, getattr(data, "fetch_wait", 0.0))  # of FetchedAhead: shards in a bucket
            placed, shape = place_batch(mesh, batch), batch["audio"].shape
            if number == start + 1:
                evaluations.check_best(state, placed)  # first, because compiling takes minutes
            if shape not in compiled:
                with watchdog.paused():
                    began = time.monotonic()
                    compiled[shape], cost = compile_step(step, state, placed)
                    seconds = round(clock.since("compile", began), 4)
                work[shape] = cost.model_flops
                log.event("compile", step=number, shape=shape, seconds=seconds, **cost.fields())
                rows_at_once, samples = placed["audio"].shape
                bar.say(f"compiled for {rows_at_once} x {samples / SAMPLE_RATE:.1f} s in {seconds:.1f} s: {cost}")
                bar.leave_out(seconds)
            if number == start + 1:  # before there is nothing to save, and the process may end at once
                stop = stack.enter_context(Stop(watchdog.hurry))
                bar.leave_out(sum(waited))
            rates.add(waited, audio_seconds(batch), work[shape])
            state, metrics = compiled[shape](state, placed)
            if pending:
                rows.write(*pending)
            pending = (number, batch, metrics)

            asked_by = stop.asked(number)
            last = number == settings.steps or asked_by is not None
            saves = last or settings.checkpoint_due(number)
            if (found := evaluations.at(number, state)) or saves:
                values = rows.write(*pending, found)
                pending = None
            if saves:
                if last:
                    watchdog.saving()
                began = time.monotonic()
                log.sync()
                checkpoints.save(number, state, values)
                if last or upload:
                    checkpoints.wait()
                clock.since("checkpoint", began)
                log.event("steps", **clock.cut(number))
                log.event("save", step=number, rows=log.digest)
                if upload:
                    began = time.monotonic()
                    with watchdog.paused():
                        upload(not last)
                    clock.since("checkpoint", began)
            watchdog.done(number)
            if asked_by and number < settings.steps:
                log.event("interrupted", step=number, signal=asked_by)
                raise Interrupted(f"{asked_by}: saved at step {number}; run the same command to resume")
        check_trained(values["skipped"], settings.steps)
        log.event("done", step=settings.steps)
    return {"step": settings.steps, "finished_before": False, "compiled": len(compiled)} | values


@dataclass(frozen=True)
class Rows:
    """Where the metrics of a step go."""

    settings: TrainConfig
    log: RunLog
    loggers: Loggers
    bar: Bar
    rates: Rates
    clock: Clock
    sentinel: Sentinel

    def write(
        self, number: int, batch: Batch, metrics: Mapping[str, Any], found: Mapping[str, float] = MappingProxyType({})
    ) -> dict[str, float]:
        """Fetches the metrics of one step and writes them, and what was found beside, wherever they go; returns all."""
        got = jax.tree.map(lambda x: x.item(), jax.device_get(metrics))
        terms, report = got.pop("terms"), got.pop("report")
        due = bool(self.settings.report_due(number))
        values = {"epoch": int(batch["epoch"][0]), "loss": got.pop("loss")} | terms | got | (report if due else {})
        values |= found
        best = self.settings.best
        beside = best.startswith((HELDOUT, "probe_"))  # a figure of evaluations
        first = (found and self.settings.checkpoint_due(number)) or (number == 1 and not beside)
        if best and best not in values and first:
            raise UsageError(f"config key train.best = {best!r}: no such figure; there are {', '.join(values)}")
        self.log.row(number, values)
        speed = self.rates.look()
        if due:
            self.log.event("rates", step=number, **speed)
            self.log.event("steps", **self.clock.cut(number))
            self.rates.restart()
        if due or found:
            self.loggers.log(number, values | (speed if due else {}))
        self.bar.show({"loss": values["loss"]} | terms, speed)
        self.sentinel.finite(number, got["skipped_in_row"], batch)
        if due:
            self.sentinel.alive(number, report)
        return values


def audio_seconds(batch: Batch) -> float:
    """Seconds of audio in the global batch, estimated from this process's rows."""
    return float((batch["lengths"] * batch["weight"]).sum()) / SAMPLE_RATE * jax.process_count()
