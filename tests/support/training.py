"""Requirements on training with every objective, besides the numbered properties of properties.py."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from support import toys
from support.properties import KEY, System, train_state

from jepa_speech.training.checkpoint import by_path, read_weights
from jepa_speech.training.optim import OptimConfig, learning_rate, make_optimizer
from jepa_speech.training.sharding import MeshConfig, make_mesh, place_batch, replicated
from jepa_speech.training.state import abstract_state
from jepa_speech.training.step import make_step, total_loss

ROWS, STEPS = 8, 3
OPTIM = OptimConfig(learning_rate=3e-3, warmup_steps=0, schedule="constant")
ADAMW = make_optimizer(OPTIM)
SECONDS = {"w2v_bert": 2.0}  # at 25 Hz a second has too few frames
LOOSE = {  # what a mesh changes by more than 1e-5
    "slow/norms/8/mean": 1e-2,  # PASE's last bias, which the normalisation takes away: Adam makes steps of rounding
    "effective_rank": 5e-3,  # made of square roots of eigenvalues, some of which are rounding alone
    "target_rank": 5e-3,  # the same
}
Course = tuple[list[dict[str, Any]], dict[str, np.ndarray]]  # figures of each step; `slow` after them, by path


def toy_batch(name: str, objective: Any, seed: int = 0) -> dict[str, jax.Array]:
    """A batch with all that the objective of this name asks for."""
    batch = toys.toy_batch(ROWS, SECONDS.get(name, 1.0), seed, toys.toy_anchor())
    if "text" in objective.batch_fields:
        batch = toys.with_text(batch, seed + 2)
    return toys.with_others(batch, seed + 1) if {"mix", "context"} & objective.batch_fields else batch


def toy_batches(name: str, objective: Any) -> Iterator[dict[str, np.ndarray]]:
    """One for each of `STEPS`; the last row of the second is a filler."""
    for seed in range(STEPS):
        batch = {key: np.array(x) for key, x in toy_batch(name, objective, seed).items()}
        batch["weight"][-1] = seed != 1
        yield batch


def one_step(objective: Any, accumulate: int = 1, shardings: Any = None) -> Callable:
    """The jitted step: on one device, unless `shardings` of the state place it on several."""
    step = make_step(objective, ADAMW, learning_rate(OPTIM, STEPS), lambda _: False, accumulate, shardings)
    return jax.jit(step, out_shardings=shardings and (shardings, replicated(shardings.step.mesh)))


def no_gradient_into_aux_state(system: System) -> None:
    """The auxiliary state gets no gradient."""
    if not system.aux_state:
        return

    def loss(aux_state: Any) -> jax.Array:
        return total_loss(system.objective.loss(system.params, aux_state, system.batch, KEY, 0)[0])

    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(system.aux_state)):
        assert not np.any(leaf), jax.tree_util.keystr(path)


def learns(system: System, step: Callable, steps: int = 12) -> None:
    """Every part changes, the loss falls on one batch, `slow` keeps its tree, a restored state continues bit by bit."""
    state, losses = train_state(system, ADAMW), []
    for number in range(steps):
        if number == steps - 3:
            saved = jax.tree.map(np.asarray, state)
        state, metrics = step(state, system.batch)
        losses.append(float(metrics["loss"]))
        assert np.isfinite(metrics["grad_norm"])
    assert losses[-1] < losses[1] < np.inf, losses
    for name, part in system.params.items():
        assert any(
            np.any(a != b) for a, b in zip(jax.tree.leaves(part), jax.tree.leaves(state.params[name]), strict=True)
        )
    shapes = [
        jax.tree.map(lambda x: (x.shape, x.dtype), aux_state) for aux_state in (system.aux_state, state.aux_state)
    ]
    assert shapes[0] == shapes[1]
    again = jax.tree.map(jnp.asarray, saved)
    for _ in range(3):
        again, _ = step(again, system.batch)
    jax.tree.map(np.testing.assert_array_equal, again, state)


def spread(system: System, accumulate: int) -> tuple[Callable, Any]:
    """The jitted step and the first state on four devices, which split rows and parameters, in micro-batches."""
    abstract = abstract_state(system.objective, ADAMW, 0, make_mesh(MeshConfig(2, 2)))
    shardings = jax.tree.map(lambda s: s.sharding, abstract)
    return one_step(system.objective, accumulate, shardings), jax.device_put(train_state(system, ADAMW), shardings)


def course(name: str, system: System, step: Callable, state: Any = None) -> Course:
    """`STEPS` steps, one after the other: on one device, unless `state` is elsewhere."""
    rows = []
    mesh = None if state is None else state.step.sharding.mesh
    state = train_state(system, ADAMW) if state is None else state
    for batch in toy_batches(name, system.objective):
        state, metrics = step(state, batch if mesh is None else place_batch(mesh, batch))
        metrics = jax.device_get(metrics)
        rows.append({name: metrics[name] for name in ("loss", "grad_norm")} | metrics["terms"])
    return rows, {f"slow/{path}": np.asarray(x) for path, x in by_path(state.aux_state).items()}


def course_of(run: Path) -> Course:
    """Returns the metrics and state of a run's folder."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return rows, {path: x for path, x in read_weights(run)[1].items() if path.startswith("slow/")}


def same(ours: Course, theirs: Course, **loose: float) -> None:
    """Loss, gradient norm and all terms of each step, and `slow` after them: to 1e-5, but for LOOSE and `loose`."""
    assert len(ours[0]) == STEPS and ours[1].keys() == theirs[1].keys()
    for step, (a, b) in enumerate(zip([*ours[0], ours[1]], [*theirs[0], theirs[1]], strict=True), 1):
        for name in b:
            atol = (LOOSE | loose).get(name, 1e-5) * np.abs(b[name]).max() + 1e-8
            np.testing.assert_allclose(a[name], b[name], rtol=0, atol=atol, err_msg=f"{name}, step {min(step, STEPS)}")
