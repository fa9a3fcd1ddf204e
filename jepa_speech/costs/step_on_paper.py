"""Estimates of what a step costs: memory of a device and work, from shapes alone. Nothing is compiled."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jepa_speech.batches.batch_plan import Plan, bucket_lengths
from jepa_speech.costs.exchange import Bytes
from jepa_speech.costs.synthetic import abstract_batch, filled_in
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.objective_parts.contract import Objective
from jepa_speech.objectives import build
from jepa_speech.settings.run_config import RunConfig
from jepa_speech.settings.training import MeshConfig
from jepa_speech.training.compiled import as_it_is_written, product_flops
from jepa_speech.training.optim import make_optimizer
from jepa_speech.training.sharding import mesh_on_paper
from jepa_speech.training.state import TrainState, abstract_state, count_params
from jepa_speech.training.step import make_step, total_loss


def step_on_paper(config: RunConfig, devices: int) -> tuple[dict[str, float], Bytes]:
    """The figures of a step of so many devices, GB for each of them; and the bytes of its model that travel.

    Of the buckets the longest is taken, in which attention costs most. Raises UsageError where the devices do not form
    the config's mesh.
    """
    data, settings, layout = config.data, config.train, config.mesh
    mesh = mesh_on_paper(layout, devices)
    config = filled_in(config)
    objective, optimizer = build(config), make_optimizer(config.optim)
    state = abstract_state(objective, optimizer, config.seed, mesh, layout.rules)
    samples, parts = int(bucket_lengths(data.buckets)[-1]), devices * settings.accumulate
    rows = -(-max(1, int(data.batch_seconds / max(data.buckets))) // parts) * parts

    bare = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype), state)
    flops = step_flops(config, objective, bare, rows, samples)
    one, two = (kept_bytes(objective, bare, abstract_batch(config, objective, n, samples)) for n in (1, 2))
    stats = jax.eval_shape(
        objective.loss, bare.params, bare.aux_state, abstract_batch(config, objective, 1, samples), bare.key, bare.step
    )[1]

    split, aux_state = split_bytes(state.params), split_bytes(state.aux_state)
    whole = total_bytes(state.params) - split + total_bytes(stats)
    memory = {
        "parameters": device_bytes(state.params),
        "optimiser": device_bytes(state.opt_state),
        "teacher_and_other_slow": device_bytes(state.aux_state),
        "gradients": device_bytes(state.params),
        "gathered_weights": split + aux_state,
        "activations_at_most": (two - one) * rows // parts,
    }
    return {
        "parameters_M": count_params(state.params) / 1e6,
        "GFLOP_per_padded_audio_s": flops / (rows * samples / SAMPLE_RATE) / 1e9,
        "TFLOP_per_step": flops / 1e12,
    } | {f"{name}_GB": value / 1e9 for name, value in (memory | {"device": sum(memory.values())}).items()}, Bytes(
        split, aux_state, whole
    )


def step_flops(config: RunConfig, objective: Objective, state: TrainState, rows: int, samples: int) -> int:
    """Of the matrix products of one step on so many rows: forward, backward, teacher, heads, and all else in it."""
    optimizer = make_optimizer(config.optim)
    step = jax.jit(make_step(objective, optimizer, lambda _: jnp.ones(()), config.train.report_due))
    return product_flops(as_it_is_written(step, state, abstract_batch(config, objective, rows, samples)))


def mean_step_flops(config: RunConfig, objective: Objective, plan: Plan) -> float:
    """The mean over the batches of an epoch, on one device."""
    optimizer = make_optimizer(config.optim)
    mesh = mesh_on_paper(MeshConfig(data=1, fsdp=1), 1)
    state = abstract_state(objective, optimizer, config.seed, mesh)
    bare = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype), state)
    shapes = zip(plan.padded_rows.tolist(), plan.bucket_samples.tolist(), strict=True)
    flops = [step_flops(config, objective, bare, rows, samples) for rows, samples in shapes]
    return sum(count * work for count, work in zip(plan.counts.tolist(), flops, strict=True)) / plan.batches_per_epoch


def kept_bytes(objective: Objective, state: TrainState, batch: Mapping[str, Any]) -> int:
    """Bytes that the forward pass leaves for the backward pass, if nothing is fused or computed again but by remat."""

    def kept(state: TrainState, batch: Mapping[str, Any]) -> Any:
        def loss(params: Any) -> jax.Array:
            return total_loss(objective.loss(params, state.aux_state, batch, state.key, state.step)[0])

        return jax.vjp(loss, state.params)[1]

    return total_bytes(jax.eval_shape(kept, state, batch))


def total_bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def split_bytes(tree: Any) -> int:
    """Of the arrays that fsdp splits."""
    return total_bytes([leaf for leaf in jax.tree.leaves(tree) if "fsdp" in leaf.sharding.spec])


def device_bytes(tree: Any) -> int:
    """Of one device's part of each array."""
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
