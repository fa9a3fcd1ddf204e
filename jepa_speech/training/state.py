"""All that a run carries from one step to the next, as one pytree."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AbstractMesh, Mesh

from jepa_speech.objective_parts.contract import Objective
from jepa_speech.settings.training import MeshConfig
from jepa_speech.training.sharding import by_rules

Tree = Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """`step` updates have been made; the plan position is the same number."""

    params: Tree  # float32 masters
    aux_state: Tree  # what moves without a gradient: EMA teacher, codebooks, statistics
    opt_state: Tree
    step: jax.Array  # () int32
    key: jax.Array  # (2,) uint32, constant over the run
    skipped: jax.Array  # () int32: steps whose loss or gradient was not finite
    skipped_in_row: jax.Array  # () int32: those since the last good one


def make_state(objective: Objective, optimizer: optax.GradientTransformation, seed: int) -> TrainState:
    """The state before the first step. Run it through `jax.jit`, or `jax.eval_shape` for shapes only."""
    key = jax.random.PRNGKey(seed)
    params, aux_state = objective.init(key)
    zero = jnp.zeros((), jnp.int32)
    return TrainState(params, aux_state, optimizer.init(params), zero, key, zero, zero)


def abstract_state(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    seed: int,
    mesh: Mesh | AbstractMesh,
    rules: Sequence[str] = MeshConfig.rules,
) -> TrainState:
    """Shapes, types and shardings of the state; no memory is used. Raises UsageError for rules that do not fit it."""
    shapes = jax.eval_shape(lambda: make_state(objective, optimizer, seed))
    leaves = jax.tree_util.tree_leaves_with_path(shapes)
    places = by_rules(mesh, rules, {path_name(path): leaf.shape for path, leaf in leaves})
    return jax.tree_util.tree_map_with_path(
        lambda path, s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=places[path_name(path)]), shapes
    )


def init_state(
    objective: Objective, optimizer: optax.GradientTransformation, seed: int, abstract: TrainState
) -> TrainState:
    """Initialises straight into shards. Inside jit, a teacher copied from params gets buffers of its own."""
    shardings = jax.tree.map(lambda s: s.sharding, abstract)
    with drawn_by_kernel(wanted=jax.default_backend() == "gpu" and len(abstract.step.sharding.device_set) == 1):
        return jax.jit(lambda: make_state(objective, optimizer, seed), out_shardings=shardings)()


@contextmanager
def drawn_by_kernel(wanted: bool) -> Iterator[None]:
    """Inside, a GPU draws random numbers by jax's own kernel, the same ones: written out for each of hundreds of
    parameters, they take longer to compile than a step. The kernel cannot be partitioned over several devices.
    """
    # 2026-11: not announced for removal. Without it the numbers are the same, and compiling takes longer.
    before = jax.config.jax_threefry_gpu_kernel_lowering  # type: ignore[attr-defined]  # jax adds its options later
    jax.config.update("jax_threefry_gpu_kernel_lowering", wanted or before)
    try:
        yield
    finally:
        jax.config.update("jax_threefry_gpu_kernel_lowering", before)


def path_name(path: tuple[Any, ...]) -> str:
    """encoder/blocks/0/kernel, of a path that jax gives."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def count_params(params: Tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))
