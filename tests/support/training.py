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


def one_step(objective: Any, accumulate: int = 1) -> Callable:
    """The jitted step, on one device."""
    return jax.jit(make_step(objective, ADAMW, learning_rate(OPTIM, STEPS), lambda _: False, accumulate))


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


def split(system: System, step: Callable) -> None:
    """In one part or two: the same loss, gradient norm and `slow`, to 1e-5."""
    state = train_state(system, ADAMW)
    whole, metrics = step(state, system.batch)
    after, measured = one_step(system.objective, accumulate=2)(state, system.batch)
    for name in ("loss", "grad_norm"):
        np.testing.assert_allclose(measured[name], metrics[name], rtol=1e-5, err_msg=name)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(whole.aux_state), jax.tree.leaves(after.aux_state), strict=True
    ):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5, err_msg=jax.tree_util.keystr(path))


def course(name: str, system: System, step: Callable) -> Course:
    """`STEPS` steps on one device, one after the other."""
    state, rows = train_state(system, ADAMW), []
    for batch in toy_batches(name, system.objective):
        state, metrics = step(state, batch)
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
