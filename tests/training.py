"""What training must do with every objective; beside the numbered properties of properties.py."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from properties import KEY, System, train_state

from jepa_speech.train.step import total_loss


def no_gradient_into_slow(system: System) -> None:
    """What moves without a gradient gets none."""
    if not system.slow:
        return

    def loss(slow: Any) -> jax.Array:
        return total_loss(system.objective.loss(system.params, slow, system.batch, KEY, 0)[0])

    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(system.slow)):
        assert not np.any(leaf), jax.tree_util.keystr(path)


def learns(system: System, step: Callable, steps: int = 12) -> None:
    """Every part moves, the loss falls on one batch, `slow` keeps its tree, a restored state goes on bit by bit."""
    state, losses = train_state(system, optax.scale_by_adam()), []
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
    shapes = [jax.tree.map(lambda x: (x.shape, x.dtype), slow) for slow in (system.slow, state.slow)]
    assert shapes[0] == shapes[1]
    again = jax.tree.map(jnp.asarray, saved)
    for _ in range(3):
        again, _ = step(again, system.batch)
    jax.tree.map(np.testing.assert_array_equal, again, state)


def split(system: System, step: Callable, optimizer: optax.GradientTransformation) -> None:
    """On one device or four, in one part or two: the same loss, gradient norm and `slow`, to 1e-5."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]), ("data",))
    rows, whole = (jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*p)) for p in (("data",), ()))
    state = train_state(system, optimizer)
    alone, metrics = step(state, system.batch)
    others = [step(jax.device_put(state, whole), jax.device_put(system.batch, rows))]
    if not system.objective.batch_statistics:  # those are of the micro-batch
        in_parts = system.step(system.objective, optimizer, lambda _: 3e-3, lambda _: False, 2)
        others.append(jax.jit(in_parts)(state, system.batch))
    for after, measured in others:
        for name in ("loss", "grad_norm"):
            np.testing.assert_allclose(measured[name], metrics[name], rtol=1e-5, err_msg=name)
        for (path, a), b in zip(
            jax.tree_util.tree_leaves_with_path(alone.slow), jax.tree.leaves(after.slow), strict=True
        ):
            np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5, err_msg=jax.tree_util.keystr(path))
