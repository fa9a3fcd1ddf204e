"""What is measured at some steps beside the metrics of the step itself: the held-out loss and the probe."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import jax
from jax.sharding import Mesh

from jepa_speech.errors import UsageError
from jepa_speech.objective_parts.contract import Batch, Objective
from jepa_speech.settings.training import TrainConfig
from jepa_speech.training.heldout import figure_names, make_evaluate
from jepa_speech.training.ledger import Clock
from jepa_speech.training.sharding import place_batch, replicated
from jepa_speech.training.state import TrainState, Tree
from jepa_speech.training.watchdog import Watchdog

if TYPE_CHECKING:
    from jepa_speech.batches.pipeline import Batches  # which loads grain

HELDOUT = "heldout_"  # before the name of a figure, in metrics.jsonl
Heldout = Callable[[], "Batches"]  # () -> this process's rows of the held-out batches
Probe = Callable[[Tree, Tree], dict[str, float]]  # (params, aux_state) -> figures by their names in metrics.jsonl


class Evaluations:
    """The held-out loss at every checkpoint, and the probe at every `train.probe_every`-th step and the last.

    Which of them are due depends on the step alone, so that a run that was stopped has the same rows as one that was
    not. heldout, probe: None where there is none. Their time is counted by `clock`, and not by `watchdog`.
    """

    def __init__(
        self,
        settings: TrainConfig,
        objective: Objective,
        mesh: Mesh,
        heldout: Heldout | None,
        probe: Probe | None,
        clock: Clock,
        watchdog: Watchdog,
        say: Callable[[str], None],
    ) -> None:
        with jax.transfer_guard("allow"):
            masks = jax.random.PRNGKey(0)  # those of `jepa-speech evaluate`
        self._evaluate = make_evaluate(objective, masks, replicated(mesh))
        self._objective = objective
        self._settings, self._mesh, self._heldout, self._probe = settings, mesh, heldout, probe
        self._clock, self._watchdog, self._say = clock, watchdog, say
        self._probed: list[float] = []  # when the probes of this attempt ended

    def check_best(self, state: TrainState, batch: Batch) -> None:
        """Raises UsageError if `train.best` names a figure of held-out recordings that the objective does not have."""
        if (best := self._settings.best).startswith(HELDOUT):
            names = [HELDOUT + name for name in figure_names(self._objective, state.params, state.aux_state, batch)]
            if best not in names:
                raise UsageError(f"config key train.best = {best!r}: no such figure; there are {', '.join(names)}")

    def at(self, number: int, state: TrainState) -> dict[str, float]:
        """Returns the figures that are due at step `number`, whose state this is, by their names in metrics.jsonl."""
        found: dict[str, float] = {}
        if self._heldout and self._settings.checkpoint_due(number):
            with self._counted("evaluation", state), closing(self._heldout()) as items:
                placed = (place_batch(self._mesh, item) for item in items)
                figures = self._evaluate(state.params, state.aux_state, state.step, placed)
            found |= {HELDOUT + name: figure for name, figure in figures.items()}
        if self._probe and self._settings.probe_due(number):
            with self._counted("probe", state):
                found |= self._probe(state.params, state.aux_state)
        return found

    @contextmanager
    def _counted(self, kind: str, state: TrainState) -> Iterator[None]:
        jax.block_until_ready(state.step)  # else the step's own time would count as that of the evaluation
        began = time.monotonic()
        with self._watchdog.paused():
            yield
        seconds = self._clock.since(kind, began)
        if kind == "probe":
            self._print_cost(seconds)

    def _print_cost(self, seconds: float) -> None:
        """Says once what a probe costs: the second one, because the first compiles."""
        self._probed.append(time.monotonic())
        if len(self._probed) == 2:
            share = seconds / (self._probed[1] - self._probed[0])
            self._say(f"a probe takes {seconds:.2g} s, {share:.1%} of the time from one to the next")
