"""Config sections of the training loop: `optim`, `train` and `mesh`."""

import re
from dataclasses import dataclass
from typing import Any, Literal

from jepa_speech.errors import UsageError

LARGEST, COPY = "largest", "copy"  # values of an axis in mesh rules, besides numbers
# Prefix of paths in the auxiliary state, and its name before December 2026, which still works in rules.
AUX_STATE, OLDER_AUX_STATE = "aux_state/", "slow/"


@dataclass(frozen=True)
class OptimConfig:
    """Config section `optim`: AdamW, and its learning rate over the steps."""

    learning_rate: float = 5e-4  # the peak [fairseq: lr]
    # steps of linear growth to the peak; the first has peak / warmup_steps [fairseq: warmup_updates, warmup_steps]
    warmup_steps: int = 4000
    hold_steps: int = 0  # at the peak, before the schedule starts [fairseq: hold_steps]
    # from the peak to 0 at train.steps; `exponential`: to 1% of it; `inverse_sqrt`:
    # peak * sqrt((warm-up + hold) / step) [fairseq: lr_scheduler]
    schedule: Literal["constant", "linear", "cosine", "exponential", "inverse_sqrt"] = "cosine"
    betas: tuple[float, float] = (0.9, 0.98)  # of Adam [fairseq: adam_betas]
    epsilon: float = 1e-6  # of Adam [fairseq: adam_eps]
    weight_decay: float = 0.01  # not on biases, gains and other vectors [fairseq: weight_decay]
    clip: float = 1.0  # largest global gradient norm; 0: no clipping [fairseq: clip_norm]

    def __post_init__(self) -> None:
        if min(self.learning_rate, self.warmup_steps, self.hold_steps, self.clip) < 0:
            raise UsageError("config keys optim.learning_rate, warmup_steps, hold_steps, clip: must be at least 0")


@dataclass(frozen=True)
class TrainConfig:
    """Config section `train`."""

    steps: int = 50_000  # of the whole run [fairseq: max_update]
    checkpoint_every: int = 1000  # steps between checkpoints [fairseq: save_interval_updates]
    keep: int = 2  # newest checkpoints that are kept [fairseq: keep_interval_updates]
    keep_every: int = 0  # checkpoints whose step this divides are kept for ever; 0: none
    # a figure of metrics.jsonl: the checkpoint where it was lowest is kept as well [fairseq: best_checkpoint_metric]
    best: str = ""
    report_every: int = 50  # steps between plots, and between figures that cost more, such as effective rank
    # steps between probes: figures of the representation on a few fixed recordings (docs/training.md); 0: none
    probe_every: int = 0
    accumulate: int = 1  # micro-batches per step, for a batch that does not fit into memory [fairseq: update_freq]
    max_skipped: int = 10  # steps in a row with a non-finite loss or gradient after which the run ends
    # `warn`: a line at each report that shows a collapse; `stop`: the end of the run after three such in a row
    collapse: Literal["warn", "stop"] = "warn"
    watchdog_seconds: float = 1800  # without a step, after which the process ends itself; 0: never
    stop_seconds: float = 60  # limit of the step in progress after Ctrl-C or SIGTERM; 0: none
    # where reports are shown, besides metrics.jsonl; `wandb` (Weights & Biases) and `mlflow` are extras
    loggers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ("tensorboard",)

    def __post_init__(self) -> None:
        for name in ("steps", "checkpoint_every", "keep", "report_every", "accumulate", "max_skipped"):
            if getattr(self, name) < 1:
                raise UsageError(f"config key train.{name} = {getattr(self, name)}: at least 1 needed")
        for name in ("keep_every", "probe_every", "watchdog_seconds", "stop_seconds"):
            if getattr(self, name) < 0:
                raise UsageError(f"config key train.{name} = {getattr(self, name)}: 0 or more needed")
        if self.keep_every % self.checkpoint_every:
            raise UsageError(
                f"config key train.keep_every = {self.keep_every}: checkpoints come every {self.checkpoint_every} "
                "steps (train.checkpoint_every), choose a multiple"
            )
        if self.best.startswith("probe_") and not (self.probe_every and self.checkpoint_every % self.probe_every == 0):
            raise UsageError(
                f"config key train.best = {self.best!r} needs a probe at every checkpoint: set train.probe_every to "
                f"{self.checkpoint_every} (train.checkpoint_every) or to a divisor of it"
            )

    def report_due(self, number: Any) -> Any:
        """Whether step `number` (1, 2, ...) reports; a jax array or an int."""
        return (number % self.report_every == 0) | (number == 1) | (number == self.steps)

    def checkpoint_due(self, number: int) -> bool:
        """Whether step `number` is saved in every run, and not only where a signal ends an attempt."""
        return number % self.checkpoint_every == 0 or number == self.steps

    def probe_due(self, number: int) -> bool:
        """Whether the representation is probed at step `number`."""
        return self.probe_every > 0 and (number % self.probe_every == 0 or number == self.steps)


@dataclass(frozen=True)
class MeshConfig:
    """Config section `mesh`. Batches are split over data x fsdp, the state over fsdp.

    For each array of the state, the first of `rules` whose glob matches its path applies (`*` matches slashes, too),
    such as `aux_state/teacher/*: copy` or `*/ff*/up/kernel: -1`. Arrays without a rule, and all vectors, are copied.
    AXIS is a number, `largest` (the largest axis that fsdp divides; without one, the array is copied), or `copy`.
    """

    data: int = -1  # devices that split only the batch; -1: all that fsdp leaves
    fsdp: int = 1  # devices that also split the state
    # `GLOB: AXIS`, by path in the state: the axis that is split, `largest` or `copy` (training/sharding.py)
    rules: tuple[str, ...] = ("*: largest",)

    def __post_init__(self) -> None:
        for rule in self.rules:
            parsed(rule)


def parsed(rule: str) -> tuple[str, int | str]:
    """Returns the glob and the axis of a rule. Raises UsageError for anything else."""
    glob, _, axis = (part.strip() for part in rule.rpartition(":"))
    if glob.startswith(OLDER_AUX_STATE):
        glob = AUX_STATE + glob.removeprefix(OLDER_AUX_STATE)
    if glob and axis in (LARGEST, COPY):
        return glob, axis
    if glob and re.fullmatch(r"-?\d+", axis):
        return glob, int(axis)
    raise UsageError(
        f"config key mesh.rules: {rule!r}; write GLOB: AXIS, where AXIS is a whole number, {LARGEST} or {COPY}"
    )
