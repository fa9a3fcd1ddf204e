"""Where a run begins: at its newest checkpoint, at another run's weights, or at fresh ones."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import optax

from jepa_speech.errors import UserError
from jepa_speech.objective_parts.contract import HasTeacher, Objective
from jepa_speech.progress import Say
from jepa_speech.training.checkpoint import Checkpoints, by_path, params_and_aux_state, weights_tree
from jepa_speech.training.metrics import RunLog
from jepa_speech.training.state import TrainState, init_state, path_name
from jepa_speech.wording import counted

Weights = Callable[[str], tuple[int, dict[str, np.ndarray]]]  # of what init_from names: step, arrays by path


def first_state(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    seed: int,
    init_from: str,
    abstract: TrainState,
    checkpoints: Checkpoints,
    log: RunLog,
    weights: Weights,
    say: Say,
) -> TrainState:
    """Returns the state of the newest checkpoint, else a fresh one, with the weights of `init_from` where it is set.

    abstract: the shapes and shardings of the state. say: called with lines about what was taken.

    Raises UserError if what is saved does not fit them.
    """
    if checkpoints.latest:
        return checkpoints.restore(abstract)
    state = init_state(objective, optimizer, seed, abstract)
    return take_weights(objective, state, init_from, log, weights, say) if init_from else state


def take_weights(objective: Objective, state: TrainState, run: str, log: RunLog, read: Weights, say: Say) -> TrainState:
    """The fresh state, with each array replaced that `run` holds at the same path in the same shape.

    What `run` lacks of the teacher is copied from the student that was taken, as at the start of a run.
    """
    step, weights = read(run)
    fresh = weights_tree(state.params, state.aux_state)
    arrays = by_path(fresh)
    taken = {path for path, leaf in arrays.items() if path in weights and weights[path].shape == leaf.shape}
    other = other_shapes(arrays, weights)
    if not taken:
        none = f"init_from: no array of {run} has the name and shape of one in this model"
        raise UserError(f"{none}: {other}" if other else none)

    def choose(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        name = path_name(path)
        return jax.device_put(weights[name], leaf.sharding) if name in taken else leaf

    missing, unused = arrays.keys() - taken, sorted(weights.keys() - taken)
    params, aux_state = params_and_aux_state(jax.tree_util.tree_map_with_path(choose, fresh))
    teachers = {path for path in arrays if path.startswith("slow/teacher/")}
    copied: set[str] = set()
    if isinstance(objective, HasTeacher) and (copied := teachers - taken):

        def copy(path: tuple[Any, ...], student: jax.Array, teacher: jax.Array) -> jax.Array:
            name = f"slow/teacher/{path_name(path)}"
            return jax.device_put(student, teacher.sharding) if name in copied else teacher

        student = objective.teacher(params)
        teacher = jax.tree_util.tree_map_with_path(copy, student, aux_state["teacher"])
        aux_state = aux_state | {"teacher": teacher}
    left = sorted(missing - copied)
    log.event("init_from", run=run, step=step, taken=sorted(taken), copied=sorted(copied), fresh=left, unused=unused)
    say(
        f"init_from {run}, step {step}: {counted(len(taken), 'array')} taken, {len(left)} of this model stay fresh, "
        f"{len(unused)} of that run are not used (events.jsonl names them)"
    )
    if copied:
        what = "it has no teacher, so the teacher is a copy of the student"
        if copied < teachers:
            what = f"{counted(len(copied), 'array')} that it lacks of the teacher "
            what += "is a copy of the student's" if len(copied) == 1 else "are copies of the student's"
        say(f"init_from {run}: {what}")
    if other:
        say(f"init_from {run}: {other}")
    return replace(state, params=params, aux_state=aux_state)


def other_shapes(arrays: Mapping[str, jax.Array], weights: Mapping[str, np.ndarray]) -> str:
    """Returns how many arrays have another shape in a run than in this model, and the first of them; "" if none has."""
    names = sorted(name for name in arrays.keys() & weights.keys() if arrays[name].shape != weights[name].shape)
    if not names:
        return ""
    first = f"{names[0]} is {weights[names[0]].shape} there and {arrays[names[0]].shape} here"
    sizes = "; set --config.encoder.KEY to the values of `encoder` in config.json of that run"
    encoder = any("/encoder/" in name for name in names)
    return f"{counted(len(names), 'array')} of another shape, the first: {first}{sizes if encoder else ''}"
