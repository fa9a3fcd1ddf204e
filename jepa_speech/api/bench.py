"""The speed of one part of training by itself, on this machine: the loader, the train step."""

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from jepa_speech.cloud.arguments import takes_buckets
from jepa_speech.costs.batch_autotune import batch_seconds, fill_memory, memory_of_a_device, unless_out_of_memory
from jepa_speech.costs.loader import measure_loader
from jepa_speech.costs.speed import check_rows, crop_samples, dtype_of, make_setting, matmul_rate, measure_step, rows_of
from jepa_speech.errors import UsageError, UserError
from jepa_speech.local_paths import takes_local_paths
from jepa_speech.progress import say_if
from jepa_speech.settings.run_config import RunConfig
from jepa_speech.store.store import Store
from jepa_speech.training.chips import chip_of
from jepa_speech.training.configfile import Overrides, run_config_of
from jepa_speech.wording import counted

WORKERS = (0, 1, 2)


@takes_buckets("store")
def bench_data(
    store: str | Path, *, workers: Sequence[int] = WORKERS, seconds: float = 10, progress: bool = False
) -> dict[str, Any]:
    """Read batches of a store as training does, as fast as they come.

    Args:
        workers: reading processes, one measurement each; 0: two threads of this one.
        seconds: of each measurement.
        progress: show a bar on stderr.

    Returns a dict: `store`, `codec`, `recordings`, `hours`, `cores` and `load_average` of this machine, and `runs`,
    what `measure_loader` returns for each of `workers`.

    Raises UsageError if an argument is wrong, UserError if the store cannot be read.
    """
    if not seconds > 0 or min(workers, default=-1) < 0:
        raise UsageError("seconds must be above 0, workers at least 0")
    opened = Store(store)
    bar = tqdm(workers, disable=not progress, desc="bench data", unit="measurement", leave=False, file=sys.stderr)
    runs = [measure_loader(opened, count, seconds) for count in bar]
    held = {"store": str(opened.path), "codec": opened.codec, "recordings": len(opened), "hours": opened.hours}
    return held | {"runs": runs, "cores": os.cpu_count(), "load_average": list(os.getloadavg())}


@takes_local_paths
def bench_step(
    config: RunConfig | str | Path,
    *,
    overrides: Overrides = (),
    rows: int | None = None,
    seconds: Sequence[float] | None = None,
    steps: int = 20,
    warmup: int = 3,
    autotune: bool = False,
    memory_gb: float | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Time the compiled train step of a config on noise: no store, no anchor, no loader.

    Args:
        config, overrides: see `train`.
        rows: rows of a batch; default: as many as data.batch_seconds allows.
        seconds: length of each row, one measurement each; default: data.buckets.
        steps: timed steps.
        warmup: untimed warm-up steps.
        autotune: find how many rows of each length the memory holds.
        memory_gb: memory of a device for `autotune` (GB); default: what the device reports.
        progress: show a line on stderr for each measurement, and for each try of `autotune`.

    Returns a dict: `config` (its name, "" of a RunConfig), `objective`, `device_kind`, `platform`, `devices`,
    `sheet_flops` (per second, by the chip's data sheet; None if unknown), `matmul` (see `matmul_rate`), and `runs`,
    what `measure_step` returns for each length. With `autotune` also `memory_bytes` and `batch_seconds`; use this
    value so that every bucket fits.

    Raises UsageError if an argument is wrong. Raises UserError, with the results so far, if a batch does not fit.
    """
    if steps < 1 or warmup < 0:
        raise UsageError(f"steps = {steps}, warmup = {warmup}: at least 1 and 0 needed")
    if autotune and rows is not None:
        raise UsageError("autotune finds the rows: leave rows out")
    if memory_gb is not None and not (autotune and memory_gb > 0):
        raise UsageError(f"memory_gb = {memory_gb:g}: above 0, and with autotune")
    name, say = "" if isinstance(config, RunConfig) else str(config), say_if(progress)
    config = run_config_of(config, overrides)
    lengths = seconds or sorted(config.data.buckets)
    setting = make_setting(config)
    for length in lengths:
        crop_samples(setting, length)  # whatever is wrong is refused before anything takes time
    if rows is not None:
        check_rows(setting, rows)
    batches = {length: rows or rows_of(setting, length) for length in lengths}

    device = jax.devices()[0]
    matmul, chip = matmul_rate(dtype_of(config)), chip_of(device.device_kind)
    memory = 1e9 * memory_gb if memory_gb else memory_of_a_device()
    runs: list[dict[str, Any]] = []
    results = {
        "config": name,
        "objective": config.objective.name,
        "device_kind": device.device_kind,
        "platform": device.platform,
        "devices": jax.device_count(),
        "sheet_flops": chip.flops if chip else None,
        "matmul": matmul,
        "runs": runs,
    }
    for length, count in batches.items():
        how = steps, warmup, matmul["flops_per_second"]
        if autotune:
            found = fill_memory(config, length, memory, *how, say=say)
        else:
            say(f"{counted(count, 'row')} of {length:g} s: compiling, then {counted(warmup + steps, 'step')}")
            found = unless_out_of_memory(partial(measure_step, config, count, length, *how))
        if found is None:
            raise UserError(
                f"{counted(count, 'row')} of {length:g} s: more than the device's memory; use fewer rows, or autotune",
                results,
            )
        runs.append(found)
    if not autotune:
        return results
    most = batch_seconds({run["seconds"]: run["rows"] for run in runs})
    return results | {"memory_bytes": memory, "batch_seconds": most}
