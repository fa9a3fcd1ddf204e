"""Checkpoints: saved while training continues, whole or not at all, restored only if undamaged and where they fit."""

import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from orbax.checkpoint import v1 as ocp

from jepa_speech import checked
from jepa_speech.errors import UserError
from jepa_speech.training.checkpoint_steps import check_figures, check_there, known_steps, located, steps_of
from jepa_speech.training.checksums import MARK, complete_checksums, damage, has_checksums, write_checksums
from jepa_speech.training.quiet import quiet_orbax
from jepa_speech.training.run_folder import check_name
from jepa_speech.training.sharding import replicated
from jepa_speech.training.state import TrainState, Tree, path_name

# Copies of an array on several devices are written a piece each, and each piece is a program of its own that is
# compiled at the first save: worth it for large ones alone.
PIECE = 2**20  # bytes, at least
PROGRESS = ("opt_state", "step", "key", "skipped", "skipped_in_row")


class Checkpoints:
    """Checkpoints of a run, in RUN/checkpoints/<step>/: the newest `keep`; for ever those whose step `keep_every`
    divides; and the one with the lowest figure called `best`. 0 and "" mean none.

    Each has two parts, so that weights load without the optimiser: `weights` (params, aux_state) and
    `progress` (the rest of the state). The step number is also the plan position.

    shared: whether all processes have the same folder. Otherwise each has a copy of its own: all restore from it, and
    process 0 saves the arrays of all.
    """

    def __init__(self, workdir: Path, keep: int, keep_every: int = 0, best: str = "", shared: bool = True) -> None:
        self.run, self.folder, self.best = workdir, workdir.absolute() / "checkpoints", best
        self.saving: int | None = None  # the step that is being saved, or was saved last
        policies = ocp.training.preservation_policies
        kept: list[Any] = [policies.LatestN(keep)]  # always: the best alone would lose the newest
        if keep_every:
            kept.append(policies.EveryNSteps(keep_every))
        if best:
            lowest = {"get_metric_fn": lambda figures: figures.get(best, math.inf), "reverse": True, "n": 1}
            kept.append(policies.BestN(**lowest, keep_checkpoints_without_metrics=False))
        context = ocp.Context()
        context.array.saving.min_slice_bytes_for_replica_parallel = PIECE
        # Despite its name, orbax calls it before the rename that makes a checkpoint: on process 0, in the background,
        # once all processes have written their part. So a checkpoint never exists without its checksums. It is a lambda
        # since orbax makes a deep copy of a context, and with a bound method, of this object.
        context.async_options.post_finalization_callback = lambda: self._write_checksums()
        self.gathers = not shared and jax.process_count() > 1
        self.quiet, self.failed = quiet_orbax(), False
        self.quiet.__enter__()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            check_figures(workdir)
            self.manager = ocp.training.Checkpointer(
                self.folder,
                context=context,
                preservation_policy=policies.AnyPreservationPolicy(kept),
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
            self._complete_checksums()
        except (OSError, ValueError) as failure:
            explained = self._explained(failure)
            if error is None:
                raise explained from failure
        if not self.failed:
            self.quiet.__exit__(None, None, None)

    @property
    def latest(self) -> int | None:
        return None if self.manager.latest is None else self.manager.latest.step

    def wait(self) -> None:
        """Returns once the last save is whole on disk."""
        try:
            self.manager.wait()
            self._complete_checksums()
        except (OSError, ValueError) as error:
            raise self._explained(error) from error

    def save(self, step: int, state: TrainState, figures: Mapping[str, float] | None = None) -> None:
        """Copies the state to the host, then writes it in the background. All processes call it at the same step.

        figures: among them the one to be best in.
        """
        parts = {
            "weights": weights_tree(state.params, state.aux_state),
            "progress": {name: getattr(state, name) for name in PROGRESS},
        }
        if self.gathers:  # process 0 alone writes arrays of numpy; the others wait where orbax does
            parts = jax.tree.map(lambda leaf: whole(leaf, self.primary), parts)
        figure = (figures or {}).get(self.best, math.nan)
        metrics = {self.best: figure} if math.isfinite(figure) else None
        self.wait()  # as orbax would; the step of its checksums must not change before
        self.saving = step
        try:
            self.manager.save_checkpointables_async(step, parts, force=True, metrics=metrics, custom_metadata=MARK)
        except (OSError, ValueError) as error:  # of this save, or of the one before
            raise self._explained(error) from error

    def check(self) -> None:
        """Raises UserError if the newest checkpoint is damaged."""
        advice = "resume from step {step}, the newest whole one: add --from-step {step} to the command"
        if self.latest is not None:
            check_undamaged(self.run, self.latest, advice)

    def restore(self, abstract: TrainState) -> TrainState:
        """The newest checkpoint, laid out as `abstract` says, once `check` has passed; raises UserError if it does not
        fit.
        """
        step = self.latest
        folder = self.folder / str(step)
        weights = weights_tree(abstract.params, abstract.aux_state)
        progress = {name: getattr(abstract, name) for name in PROGRESS}
        with reading(folder):
            saved = saved_weights(self.manager.checkpointables_metadata(step))
        check_fit(by_path(weights), by_path(saved), f"{folder}")
        with reading(folder):
            parts = self.manager.load_checkpointables(step, {"weights": weights, "progress": progress})
        if self.primary and has_checksums(folder):
            complete_checksums(folder)  # missing after a kill between the commit and them
        return TrainState(*params_and_aux_state(parts["weights"]), **parts["progress"])

    def _write_checksums(self) -> None:
        [temporary] = self.folder.glob(f"{self.saving}.orbax-checkpoint-tmp*")
        write_checksums(temporary)

    def _complete_checksums(self) -> None:
        """Adds the checksums of what orbax wrote at the commit of the last save."""
        if self.saving is not None and self.primary:
            complete_checksums(self.folder / str(self.saving))
        self.saving = None

    @property
    def primary(self) -> bool:
        return jax.process_index() == 0

    def _explained(self, error: OSError | ValueError) -> Exception:
        """A disk's failure as a UserError (TensorStore reports it as ValueError); any other as it is."""
        self.saving, self.failed = None, True  # nothing was committed
        if isinstance(error, ValueError) and "os_error_code" not in str(error):
            return error
        reason = getattr(error, "strerror", None) or str(error).rpartition(": ")[2].partition(" [")[0]
        return UserError(
            f"{self.folder}: a checkpoint could not be written ({reason}); free disk space and run the same command, "
            f"which resumes from the last whole one"
        )


def whole(array: jax.Array, wanted: bool) -> np.ndarray:
    """Returns all of an array whose pieces may be on several processes, or zeros of its shape if it is not `wanted`.

    All processes call it for the same arrays in the same order.
    """
    if not array.is_fully_replicated:
        assert isinstance(array.sharding, NamedSharding)  # as those of `abstract_state` are
        array = jax.jit(_same, out_shardings=replicated(array.sharding.mesh))(array)
    if not wanted:
        return np.broadcast_to(np.zeros((), array.dtype), array.shape)
    # A copy, because the next step reuses the memory of the array, which on a CPU is the host's.
    return np.array(jax.device_get(array.addressable_data(0)))


def _same(array: jax.Array) -> jax.Array:
    return array


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Raises UserError if the block, in which orbax reads a checkpoint without checksums, cannot read it."""
    try:
        with quiet_orbax():
            yield
    except (OSError, ValueError, KeyError) as error:  # orbax raises these for damaged files, as experiments showed
        if has_checksums(folder):
            raise
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        raise UserError(f"{folder} is damaged: it cannot be read ({reason}); copy it again, or remove it") from error


def saved_weights(found: Any) -> Tree:
    """Shapes and types of the weights in orbax's metadata; raises ValueError where orbax could not read them."""
    if (weights := found.metadata["weights"]) is None:
        raise ValueError("no arrays found in weights/")
    return weights


def check_undamaged(run: Path, step: int, instead: str) -> None:
    """Raises UserError if a checkpoint is damaged; says on stderr if it is so old that it has no checksums.

    instead: what to do with another {step} of the run, the newest whole one.
    """
    folder = run / "checkpoints" / str(step)
    if wrong := damage(folder):
        others = (other for other in reversed(steps_of(run)) if other != step)
        whole = next((other for other in others if damage(run / "checkpoints" / str(other)) is None), None)
        advice = "; no other checkpoint of this run is whole" if whole is None else ", or " + instead.format(step=whole)
        raise UserError(f"{folder} is damaged: {wrong}; copy it again{advice}")
    if not has_checksums(folder) and jax.process_index() == 0:
        print(f"{folder} was saved without checksums: damage to its arrays would not be noticed", file=sys.stderr)


def read_weights(source: str | Path, step: int | None = None) -> tuple[int, dict[str, np.ndarray]]:
    """Step and weights of a checkpoint by path: "params/encoder/...", "slow/teacher/...".

    source: RUN, for its newest checkpoint or that of `step`; or RUN/checkpoints/STEP.

    Needs neither the config nor the objective. Raises UserError if there is no such checkpoint, or it is damaged.
    """
    run, named = located(source)
    check_name(run)
    there, asked = known_steps(run), named if step is None else step
    step = there[-1] if asked is None else asked
    check_there(run, step, there)
    try:
        check_undamaged(run, step, f"take {run}/checkpoints/{{step}}, the newest whole one")
    except UserError:
        if asked is not None or steps_of(run)[-1:] == [step]:
            raise
        return read_weights(run)  # training has meanwhile removed it
    folder = (run / "checkpoints" / str(step)).absolute()
    with reading(folder):
        shapes = saved_weights(ocp.checkpointables_metadata(folder))
        abstract = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), shapes)
        weights = by_path(ocp.load_checkpointables(folder, {"weights": abstract})["weights"])
    for path, leaf in weights.items():
        if leaf.dtype.kind == "f":
            checked.array(leaf, f"{folder}: {path}", shape=leaf.shape)
    return step, weights


def arranged(saved: Mapping[str, np.ndarray], like: tuple[Tree, Tree], where: str) -> tuple[Tree, Tree]:
    """(params, aux_state) of what `read_weights` returned, in the structure of `like`.

    `like` is (params, aux_state) of the objective, real or from `jax.eval_shape(objective.init, key)`.
    where: names the run. Raises UserError, naming the first path that differs, if the checkpoint is of another
    architecture.
    """
    target = weights_tree(*like)
    check_fit(by_path(target), saved, where)
    weights = jax.tree_util.tree_map_with_path(lambda path, _: saved[path_name(path)], target)
    return params_and_aux_state(weights)


def weights_tree(params: Tree, aux_state: Tree) -> dict[str, Tree]:
    """The weights as checkpoints and fingerprints have them. There the auxiliary state is named `slow`, its name before
    December 2026.
    """
    return {"params": params, "slow": aux_state}


def params_and_aux_state(weights: Mapping[str, Tree]) -> tuple[Tree, Tree]:
    """The two parts of a `weights_tree`."""
    return weights["params"], weights["slow"]


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
