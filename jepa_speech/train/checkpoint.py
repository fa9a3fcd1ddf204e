"""Checkpoints: saved while training goes on, whole or not at all, restored only where they fit."""

import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from jepa_speech.errors import UserError
from jepa_speech.train.state import TrainState, Tree, path_name

# Copies of an array on several devices are written a piece each, and each piece is a program of its own that is
# compiled at the first save: worth it for large ones alone.
PIECE = 2**20  # bytes, at least
PROGRESS = ("opt_state", "step", "key", "skipped", "skipped_in_row")


class Checkpoints:
    """Checkpoints of a run, in RUN/checkpoints/<step>/: the newest `keep`; for ever those whose step `keep_every`
    divides; and the one with the lowest figure called `best`. 0 and "" mean none.

    Each has two parts, so that weights load without the optimiser: `weights` (params, slow) and
    `progress` (the rest of the state). The step number is also the plan position.
    """

    def __init__(self, workdir: Path, keep: int, keep_every: int = 0, best: str = "") -> None:
        self.folder, self.best = workdir.absolute() / "checkpoints", best
        policies = ocp.training.preservation_policies
        kept: list[Any] = [policies.LatestN(keep)]  # always: the best alone would lose the newest
        if keep_every:
            kept.append(policies.EveryNSteps(keep_every))
        if best:
            lowest = {"get_metric_fn": lambda figures: figures.get(best, math.inf), "reverse": True, "n": 1}
            kept.append(policies.BestN(**lowest, keep_checkpoints_without_metrics=False))
        context = ocp.Context()
        context.array.saving.min_slice_bytes_for_replica_parallel = PIECE
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.manager = ocp.training.Checkpointer(
                self.folder,
                context=context,
                preservation_policy=policies.AnyPreservationPolicy(kept),
                cleanup_tmp_directories=True,  # what a kill left over
            )
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be written ({error.strerror})") from error

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.manager.close()  # waits for the last save
        except (OSError, ValueError) as failure:
            if error is None:
                raise self._explained(failure) from failure

    @property
    def latest(self) -> int | None:
        return None if self.manager.latest is None else self.manager.latest.step

    def wait(self) -> None:
        """Returns once the last save is whole on disk."""
        try:
            self.manager.wait()
        except (OSError, ValueError) as error:
            raise self._explained(error) from error

    def save(self, step: int, state: TrainState, figures: Mapping[str, float] | None = None) -> None:
        """Copies the state to the host, then writes it in the background. figures: among them the one to be best in."""
        parts = {
            "weights": {"params": state.params, "slow": state.slow},
            "progress": {name: getattr(state, name) for name in PROGRESS},
        }
        figure = (figures or {}).get(self.best, math.nan)
        metrics = {self.best: figure} if math.isfinite(figure) else None
        try:
            self.manager.save_checkpointables_async(step, parts, force=True, metrics=metrics)
        except (OSError, ValueError) as error:  # of this save, or of the one before
            raise self._explained(error) from error

    def restore(self, abstract: TrainState) -> TrainState:
        """The newest checkpoint, laid out as `abstract` says; raises UserError if it does not fit."""
        step = self.latest
        weights = {"params": abstract.params, "slow": abstract.slow}
        saved = self.manager.checkpointables_metadata(step).metadata["weights"]
        check_fit(by_path(weights), by_path(saved), f"{self.folder / str(step)}")
        progress = {name: getattr(abstract, name) for name in PROGRESS}
        parts = self.manager.load_checkpointables(step, {"weights": weights, "progress": progress})
        return TrainState(**parts["weights"], **parts["progress"])

    def _explained(self, error: OSError | ValueError) -> Exception:
        """A disk's failure as a UserError (TensorStore reports it as ValueError); any other as it is."""
        if isinstance(error, ValueError) and "os_error_code" not in str(error):
            return error
        reason = getattr(error, "strerror", None) or str(error).rpartition(": ")[2].partition(" [")[0]
        return UserError(
            f"{self.folder}: a checkpoint could not be written ({reason}); make room and run the same command, "
            f"which goes on from the last whole one"
        )


def best_step(run: str | Path, figure: str) -> int | None:
    """The step of the checkpoint with the lowest `figure`, the newest of equal ones; None where none has the figure."""
    folder = Path(run).absolute() / "checkpoints"
    if not figure or not folder.is_dir():
        return None
    with ocp.training.Checkpointer(folder) as manager:
        judged = [(one.metrics[figure], -one.step) for one in manager.checkpoints if figure in (one.metrics or {})]
    return -min(judged)[1] if judged else None


def read_weights(run: str | Path, step: int | None = None) -> tuple[int, dict[str, np.ndarray]]:
    """Step and weights of a run's checkpoint, the newest one where no step is named, by path: "params/encoder/...",
    "slow/teacher/...".

    Needs neither the config nor the objective. Raises UserError if there is no whole checkpoint.
    """
    folder = Path(run).absolute() / "checkpoints"
    if not folder.is_dir():
        raise UserError(f"{run}: not a run folder (no checkpoints/ in it)")
    with ocp.training.Checkpointer(folder) as manager:
        if manager.latest is None:
            raise UserError(f"{run}: has no whole checkpoint yet; train it first")
        step = manager.latest.step if step is None else step
        shapes = manager.checkpointables_metadata(step).metadata["weights"]
        abstract = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), shapes)
        return step, by_path(manager.load_checkpointables(step, {"weights": abstract})["weights"])


def load_weights(run: str | Path, like: tuple[Tree, Tree], step: int | None = None) -> tuple[int, Tree, Tree]:
    """(step, params, slow) of a run's newest checkpoint, or that of `step`, as numpy arrays in the structure of `like`.

    `like` is (params, slow) of the objective, real or from `jax.eval_shape(objective.init, key)`.
    Raises UserError, naming the first path that differs, if the checkpoint is of another architecture.
    """
    step, saved = read_weights(run, step)
    target = {"params": like[0], "slow": like[1]}
    check_fit(by_path(target), saved, str(run))
    weights = jax.tree_util.tree_map_with_path(lambda path, _: saved[path_name(path)], target)
    return step, weights["params"], weights["slow"]


def by_path(tree: Tree) -> dict[str, Any]:
    """The leaves of a tree by their path; keys 0 and "0" are the same path."""
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def check_fit(wanted: Mapping[str, Any], saved: Mapping[str, Any], where: str) -> None:
    """Raises UserError at the first path that one side lacks, or whose shapes differ."""
    for path in sorted(wanted.keys() | saved.keys()):
        ours = wanted[path].shape if path in wanted else "nothing"
        theirs = tuple(saved[path].shape) if path in saved else "nothing"
        if ours != theirs:
            raise UserError(
                f"{where}: a checkpoint of another architecture: {path} is {theirs} there, {ours} in this config; "
                "use another --workdir, or the config that it was trained with"
            )
