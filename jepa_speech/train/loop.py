"""The training loop. Its order is a contract:

next(data) → dispatch step N → write row N-1 → at a save step: write row N, fsync, save → asked to stop?

State N is the state after N updates, and the plan position saved with it is N. The same command goes on
where the last whole checkpoint stands, and ends bit-identical to a run that was never stopped.
"""

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import numpy as np

from jepa_speech.config import from_section
from jepa_speech.errors import Interrupted, UsageError, UserError
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.objectives.collapse import collapsed
from jepa_speech.train.checkpoint import Checkpoints, by_path, read_weights
from jepa_speech.train.configfile import claim_workdir
from jepa_speech.train.metrics import Bar, Rates, RunLog
from jepa_speech.train.optim import OptimConfig, learning_rate, make_optimizer
from jepa_speech.train.sharding import MeshConfig, make_mesh, place_batch
from jepa_speech.train.state import TrainState, abstract_state, init_state, path_name
from jepa_speech.train.step import make_step

Batch = dict[str, np.ndarray]


@dataclass(frozen=True)
class TrainConfig:
    """Config section `train`."""

    steps: int = 50_000
    checkpoint_every: int = 1000
    keep: int = 2  # newest checkpoints kept
    report_every: int = 50  # steps between the figures that cost more (effective rank, ...) and between plots
    accumulate: int = 1  # micro-batches per step, for a batch that does not fit into memory
    max_skipped: int = 10  # steps in a row without a finite loss, after which the run gives up

    def __post_init__(self) -> None:
        for name in ("steps", "checkpoint_every", "keep", "report_every", "accumulate", "max_skipped"):
            if getattr(self, name) < 1:
                raise UsageError(f"config key train.{name} = {getattr(self, name)}: at least 1 needed")

    def report_due(self, number: Any) -> Any:
        """Whether step `number` (1, 2, ...) reports; a jax array or an int."""
        return (number % self.report_every == 0) | (number == 1) | (number == self.steps)


def train(
    config: Mapping[str, Any],
    objective: Any,
    batches: Callable[[int, int], Iterator[Batch]],
    workdir: str | Path,
) -> dict[str, Any]:
    """Trains until step `train.steps`, or goes on from the newest checkpoint in `workdir`.

    config: resolved; seed, init_from, optim, train and mesh are read here, all of it is written down.
    batches(start, stop): this process's rows of those items of the plan.

    Returns the last step, its metrics, and the number of compiled steps. Raises Interrupted once a signal
    came and the state is saved, UserError when the loss stays not finite, or when `workdir` is another run's.
    """
    workdir = Path(workdir)
    settings = from_section(TrainConfig, config["train"], "train")
    optim = from_section(OptimConfig, config["optim"], "optim")
    mesh = make_mesh(from_section(MeshConfig, config["mesh"], "mesh"))
    claim_workdir(workdir, config)

    optimizer = make_optimizer(optim)
    abstract = abstract_state(objective, optimizer, config["seed"], mesh)
    step = jax.jit(
        make_step(
            objective,
            optimizer,
            learning_rate(optim, settings.steps),
            settings.report_due,
            settings.accumulate,
        ),
        donate_argnums=0,
        out_shardings=(jax.tree.map(lambda s: s.sharding, abstract), None),
    )

    with ExitStack() as stack:
        checkpoints = stack.enter_context(Checkpoints(workdir, settings.keep))
        start = checkpoints.latest or 0
        log = stack.enter_context(closing(RunLog(workdir, start)))
        if start >= settings.steps:
            return {"step": start, "finished_before": True}
        if start:
            state = checkpoints.restore(abstract)
        else:
            state = init_state(objective, optimizer, config["seed"], abstract)
            if config["init_from"]:
                state = take_weights(state, config["init_from"], log)
        log.event("resume" if start else "start", step=start, devices=jax.device_count())

        stop = stack.enter_context(Stop())
        bar = stack.enter_context(closing(Bar(start, settings.steps)))
        stack.enter_context(jax.transfer_guard("disallow"))
        data = stack.enter_context(closing(batches(start, settings.steps)))
        rates, pending, values = Rates(), None, {}
        for number in range(start + 1, settings.steps + 1):
            asked = time.monotonic()
            batch = next(data)
            rates.add(time.monotonic() - asked, audio_seconds(batch))
            state, metrics = step(state, place_batch(mesh, batch))
            if pending:
                write_row(*pending, settings, log, bar, rates)
            pending = (number, batch, metrics)

            last = number == settings.steps or stop.signal is not None
            if last or number % settings.checkpoint_every == 0:
                values = write_row(*pending, settings, log, bar, rates)
                pending = None
                log.sync()
                checkpoints.save(number, state)
                log.event("save", step=number)
            if stop.signal and number < settings.steps:
                log.event("interrupted", step=number, signal=stop.signal)
                raise Interrupted(f"{stop.signal}: saved at step {number}; run the same command to go on")
        log.event("done", step=settings.steps)
    return {"step": settings.steps, "finished_before": False, "compiled": step._cache_size()} | values


def write_row(
    number: int,
    batch: Batch,
    metrics: Mapping[str, Any],
    settings: TrainConfig,
    log: RunLog,
    bar: Bar,
    rates: Rates,
) -> dict[str, float]:
    """Fetches the metrics of one step and writes them wherever they go; returns the row."""
    got = jax.tree.map(lambda x: x.item(), jax.device_get(metrics))
    terms, report = got.pop("terms"), got.pop("report")
    due = bool(settings.report_due(number))
    values = {"epoch": int(batch["epoch"][0]), "loss": got.pop("loss")} | terms | got | (report if due else {})
    log.row(number, values, plotted=due)
    speed = rates.look()
    if due:
        log.event("rates", step=number, **speed)
        if alarm := collapsed(report):
            log.event("collapse", step=number, what=alarm)
            bar.say(f"step {number}: this looks like a collapse: {alarm} (docs/reading-curves.md)")
        log.plot(number, speed)
        rates.restart()
    bar.show({"loss": values["loss"]} | terms, speed)
    if got["skipped_in_row"]:
        records = batch["record_id"][batch["weight"] > 0].tolist()
        log.event("skip", step=number, in_row=got["skipped_in_row"], records=records)
        if got["skipped_in_row"] >= settings.max_skipped:
            raise UserError(
                f"the loss or its gradient was not finite {settings.max_skipped} times in a row, last at step "
                f"{number}; events.jsonl names the records. Lower optim.learning_rate and use another --workdir"
            )
    return values


def take_weights(state: TrainState, run: str, log: RunLog) -> TrainState:
    """The fresh state, with each array replaced that `run` holds at the same path in the same shape."""
    step, weights = read_weights(run)
    fresh = {"params": state.params, "slow": state.slow}
    arrays = by_path(fresh)
    taken = {path for path, leaf in arrays.items() if path in weights and weights[path].shape == leaf.shape}
    if not taken:
        raise UserError(f"init_from: no array of {run} has the name and shape of one in this model")

    def choose(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        name = path_name(path)
        return jax.device_put(weights[name], leaf.sharding) if name in taken else leaf

    missing, unused = sorted(arrays.keys() - taken), sorted(weights.keys() - taken)
    log.event("init_from", run=run, step=step, taken=sorted(taken), fresh=missing, unused=unused)
    print(
        f"init_from {run}, step {step}: {len(taken)} arrays taken, {len(missing)} of this model stay fresh, "
        f"{len(unused)} of that run are not used (events.jsonl names them)"
    )
    return replace(state, **jax.tree_util.tree_map_with_path(choose, fresh))


def audio_seconds(batch: Batch) -> float:
    """Seconds of audio in the global batch, judged by this process's rows."""
    return float((batch["lengths"] * batch["weight"]).sum()) / SAMPLE_RATE * jax.process_count()


class Stop:
    """Notes the first SIGINT or SIGTERM, so that the loop can save; a second one ends the process at once."""

    signal: str | None = None

    def __enter__(self) -> "Stop":
        self.before = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.signal = signal.Signals(number).name
        for other in self.before:
            signal.signal(other, signal.SIG_DFL)
