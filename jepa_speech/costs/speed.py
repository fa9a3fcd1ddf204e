"""The speed of a config's train step on noise, and its share of the chip's peak performance.

The batch is on the devices before timing, and stays the same. A step is dispatched, then the host waits
(`jax.block_until_ready`) for its loss and its whole state; this interval is the step's time. Nothing else is computed
or fetched between steps. In training, the next step is dispatched while one runs, which hides the time of the dispatch.
Here it counts, unless several steps are dispatched `together` before the host waits.
"""

import math
import statistics
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from jepa_speech.batches.batch_plan import bucket_lengths
from jepa_speech.costs.synthetic import abstract_batch, filled_in, noise_batch
from jepa_speech.errors import UsageError
from jepa_speech.objective_parts.contract import Objective
from jepa_speech.objectives import build
from jepa_speech.settings.run_config import RunConfig
from jepa_speech.training.chips import chip_of
from jepa_speech.training.compiled import Cost, compile_step
from jepa_speech.training.optim import learning_rate, make_optimizer
from jepa_speech.training.sharding import batch_sharding, make_mesh, place_batch, replicated
from jepa_speech.training.state import TrainState, abstract_state, count_params, init_state
from jepa_speech.training.step import Step, make_step

SIZES = tuple(2**n for n in range(8, 15))  # widths of square matrices: 256 to 16384
PATIENCE = 0.2  # longest time of one product, in seconds


@dataclass(frozen=True)
class Setting:
    """The parts of a step, made as in training/loop.py, without using device memory."""

    config: RunConfig
    objective: Objective
    optimizer: optax.GradientTransformation
    mesh: Mesh
    state: TrainState  # shapes, types and shardings
    step: Step
    multiple: int  # rows must be a multiple of this: devices x micro-batches

    def batch(self, rows: int, samples: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns shapes, types and shardings of a batch."""
        split, shapes = batch_sharding(self.mesh), abstract_batch(self.config, self.objective, rows, samples)
        return {name: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=split) for name, s in shapes.items()}

    def compile(self, rows: int, samples: int) -> tuple[jax.stages.Compiled, Cost]:
        return compile_step(self.step, self.state, self.batch(rows, samples))


def make_setting(config: RunConfig, devices: Sequence[Any] | None = None) -> Setting:
    """Makes the parts of a step. Values from an anchor's file or from texts are assumed (`filled_in`).

    devices: those of the mesh; by default all that jax has.

    Raises UsageError for a wrong config, and if the devices do not form its mesh.
    """
    config = filled_in(config)
    settings, mesh = config.train, make_mesh(config.mesh, devices)
    objective, optimizer = build(config), make_optimizer(config.optim)
    state = abstract_state(objective, optimizer, config.seed, mesh, config.mesh.rules)
    shardings, rate = jax.tree.map(lambda s: s.sharding, state), learning_rate(config.optim, settings.steps)
    step = jax.jit(
        make_step(objective, optimizer, rate, settings.report_due, settings.accumulate, shardings),
        donate_argnums=0,
        out_shardings=(shardings, replicated(mesh)),
    )
    return Setting(config, objective, optimizer, mesh, state, step, mesh.size * settings.accumulate)


def crop_samples(setting: Setting, seconds: float) -> int:
    """Returns the samples of a bucket of `seconds`. Raises UsageError if the objective cannot be trained on them."""
    if not 0.025 <= seconds < math.inf:
        raise UsageError(f"{seconds:g} seconds: must be at least 0.025, which is one frame")
    samples = int(bucket_lengths([seconds])[0])
    setting.objective.check(samples, samples)
    return samples


def check_rows(setting: Setting, rows: int) -> None:
    """Raises UsageError if the rows cannot be divided evenly over devices and micro-batches."""
    if rows < 1 or rows % setting.multiple:
        raise UsageError(
            f"{rows} rows cannot be divided over {jax.device_count()} devices x "
            f"{setting.multiple // jax.device_count()} micro-batches (train.accumulate); choose a multiple of "
            f"{setting.multiple}"
        )


def measure_step(
    config: RunConfig,
    rows: int,
    seconds: float,
    steps: int = 20,
    warmup: int = 3,
    matmul_flops: float | None = None,
    alone: AbstractContextManager[Any] | None = None,
    trace: str | Path | None = None,
    together: int = 1,
) -> dict[str, Any]:
    """Compiles the step for `rows` crops of `seconds`, and runs it `warmup` + `steps` times from a fresh state.

    All crops are full, without padding.

    Args:
        config: resolved; neither store nor anchor is opened.
        rows: of the global batch, over all devices.
        matmul_flops: result of `matmul_rate` for one chip.
        alone: entered after compilation, such as a lock that keeps other programs off the device.
        trace: a folder for jax's profile of two more steps.
        together: steps that are dispatched before the host waits; each has an equal share of the time.

    Returns, for one step:
        rows, seconds, samples (of a crop), devices, device_kind, dtype, parameters, steps, warmup
        compile_seconds · peak_bytes of a device, as compiled · process_peak_bytes of the first device since the start
        of the process, if the device reports it · loss and skipped (number of steps), after the last step
        step_seconds (each), step_seconds_median, _min, _max
        audio_seconds_per_second · audio_hours_per_device_hour
        model_flops: of products and convolutions, counted from shapes, without recomputation · flops_again: of
        recomputation · flops_xla: by XLA's cost analysis of one device, None if it gives none
        flops_per_second: model_flops over the median · mfu_of_matmul, mfu_of_sheet: the same, divided by the rate of
        all chips in a product of large matrices, or by their bfloat16 rate in the data sheet; if these are known

    Raises UsageError for invalid rows and seconds, jax.errors.JaxRuntimeError if memory is too small.
    """
    if steps < 1 or warmup < 0:
        raise UsageError(f"steps {steps}, warmup {warmup}: must be at least 1 and 0")
    setting = make_setting(config)
    check_rows(setting, rows)
    samples = crop_samples(setting, seconds)
    began = time.perf_counter()
    compiled, cost = setting.compile(rows, samples)
    compile_seconds = time.perf_counter() - began
    state = init_state(setting.objective, setting.optimizer, setting.config.seed, setting.state)
    batch = place_batch(setting.mesh, noise_batch(setting.config, setting.objective, rows, samples))
    parameters = count_params(state.params)
    times = []
    with alone or nullcontext():
        for _ in range(warmup + steps):
            began = time.perf_counter()
            for _ in range(together):
                state, metrics = compiled(state, batch)
            jax.block_until_ready((metrics["loss"], state))
            times.append((time.perf_counter() - began) / together)
        if trace:
            with jax.profiler.trace(str(trace)):
                for _ in range(2):
                    state, metrics = compiled(state, batch)
                jax.block_until_ready(state)
    times, device = times[warmup:], jax.devices()[0]
    median, devices = statistics.median(times), jax.device_count()
    found = {
        "rows": rows,
        "seconds": seconds,
        "samples": samples,
        "devices": devices,
        "device_kind": device.device_kind,
        "dtype": dtype_of(setting.config),
        "parameters": parameters,
        "steps": steps,
        "warmup": warmup,
        "compile_seconds": compile_seconds,
        "peak_bytes": cost.peak,
        "loss": float(metrics["loss"]),
        "skipped": int(metrics["skipped"]),
        "step_seconds": times,
        "step_seconds_median": median,
        "step_seconds_min": min(times),
        "step_seconds_max": max(times),
        "audio_seconds_per_second": cost.audio_seconds / median,
        "audio_hours_per_device_hour": cost.audio_seconds / median / devices,
        "model_flops": cost.model_flops,
        "flops_again": cost.flops_again,
        "flops_xla": cost.flops_xla,
        "flops_per_second": cost.model_flops / median,
    }
    if used := (device.memory_stats() or {}).get("peak_bytes_in_use"):
        found["process_peak_bytes"] = used
    if matmul_flops:
        found["mfu_of_matmul"] = found["flops_per_second"] / (chips() * matmul_flops)
    if chip := chip_of(device.device_kind):
        found["mfu_of_sheet"] = found["flops_per_second"] / (chips() * chip.flops)
    return found


def dtype_of(config: RunConfig) -> str:
    """Returns the type of the encoder's arithmetic, float32 for released encoders."""
    return getattr(config.encoder, "dtype", "float32")


def chips() -> int:
    """Returns the number of chips: that of the devices, or 1 for a CPU, whose devices may be simulated."""
    return 1 if jax.default_backend() == "cpu" else jax.device_count()


def matmul_rate(dtype: str, sizes: tuple[int, ...] = SIZES, repeats: int = 5) -> dict[str, Any]:
    """Measures the rate of one device in products of square random matrices, at jax's default precision.

    For each size, times a chain of dependent products of at least 20 ms, and takes the median of `repeats`. Stops
    before a product would take longer than 0.2 s. Returns flops_per_second of the best size, `size`, `sizes` (size ->
    rate) and dtype.
    """
    multiply, rates = jax.jit(jnp.matmul), {}
    for size in sizes:
        keys = jax.random.split(jax.random.PRNGKey(size))
        x = jax.random.normal(keys[0], (size, size), dtype)
        w = jax.random.normal(keys[1], (size, size), dtype) / np.sqrt(size).astype(dtype)  # a chain keeps its size
        jax.block_until_ready(multiply(x, w))
        count = max(1, math.ceil(0.02 / chain_seconds(multiply, x, w, 1)))
        seconds = statistics.median(chain_seconds(multiply, x, w, count) for _ in range(repeats)) / count
        rates[size] = 2 * size**3 / seconds
        if 8 * seconds > PATIENCE:
            break
    best = max(rates, key=lambda size: rates[size])
    return {"flops_per_second": rates[best], "size": best, "sizes": rates, "dtype": dtype}


def chain_seconds(multiply: Any, x: jax.Array, w: jax.Array, count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        x = multiply(x, w)
    x.block_until_ready()
    return time.perf_counter() - began


def rows_of(setting: Setting, seconds: float) -> int:
    """Returns the rows that training would use: by data.batch_seconds, rounded up to a multiple for the devices."""
    rows = max(1, int(setting.config.data.batch_seconds / seconds))
    return -(-rows // setting.multiple) * setting.multiple
