"""`jepa-speech bench step`: the train step of a config alone, on noise: no store, no anchor, no loader."""

import argparse
import sys
from functools import partial
from typing import Any

import jax

from jepa_speech.costs.batch_autotune import batch_seconds, fill_memory, memory_of_a_device, unless_out_of_memory
from jepa_speech.costs.speed import check_rows, crop_samples, dtype_of, make_setting, matmul_rate, measure_step, rows_of
from jepa_speech.errors import UsageError, UserError
from jepa_speech.train.chips import chip_of
from jepa_speech.train.configfile import load_config
from jepa_speech.wording import counted

HELP = "run the compiled train step of a config on noise: speed, work, memory, and what share of the chip that is"
EXAMPLE = "jepa-speech bench step --config configs/smoke.py:hubert --seconds 4"
COLUMNS = (
    f"{'batch':>16} {'compile s':>9} {'peak GB':>8} {'step ms (min, max)':>26} {'audio-s/s':>10} {'h/device-h':>10} "
    f"{'GFLOP':>9} {'by XLA':>9} {'TFLOP/s':>8} {'of matmul':>9} {'of sheet':>8}"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        required=True,
        metavar="FILE[:VARIANT]",
        help="such as configs/smoke.py, or smoke for the package's own",
    )
    parser.add_argument("--rows", type=int, metavar="N", help="of a batch (default: as data.batch_seconds makes)")
    parser.add_argument(
        "--seconds",
        type=float,
        nargs="+",
        metavar="S",
        help="of each row, one measurement each (default: data.buckets)",
    )
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="that are timed (default: 20)")
    parser.add_argument("--warmup", type=int, default=3, metavar="N", help="before them (default: 3)")
    parser.add_argument("--autotune", action="store_true", help="find how many rows of each length memory holds")
    parser.add_argument(
        "--memory-gb", type=float, metavar="G", help="of a device, for --autotune (default: as the device says)"
    )
    parser.description = f"{parser.description}; --config.KEY=VALUE changes a key of the config"


def run(options: argparse.Namespace) -> dict[str, Any]:
    if options.steps < 1 or options.warmup < 0:
        raise UsageError(f"--steps {options.steps} --warmup {options.warmup}: at least 1 and 0 needed")
    if options.autotune and options.rows is not None:
        raise UsageError("--autotune finds the rows: leave --rows out")
    if options.memory_gb is not None and not (options.autotune and options.memory_gb > 0):
        raise UsageError(f"--memory-gb {options.memory_gb:g}: above 0, and with --autotune")
    config = load_config(options.config, options.overrides)
    lengths = options.seconds or sorted(config.data.buckets)
    setting = make_setting(config)
    for seconds in lengths:
        crop_samples(setting, seconds)  # whatever is wrong is told before anything takes time
    if options.rows is not None:
        check_rows(setting, options.rows)
    batches = {seconds: options.rows or rows_of(setting, seconds) for seconds in lengths}

    device = jax.devices()[0]
    matmul = matmul_rate(dtype_of(config))
    print(f"{options.config}, {config.objective.name}: {jax.device_count()} x {device.device_kind} ({device.platform})")
    print(
        f"a chip multiplies {matmul['dtype']} matrices of {matmul['size']} at {matmul['flops_per_second'] / 1e12:.3g} "
        f"TFLOP/s; data sheet (bfloat16): {sheet(device.device_kind)}"
    )
    print(COLUMNS, flush=True)
    memory = 1e9 * options.memory_gb if options.memory_gb else memory_of_a_device()
    runs: list[dict[str, Any]] = []
    results = {"config": options.config, "objective": config.objective.name, "matmul": matmul, "runs": runs}
    for seconds, rows in batches.items():
        how = options.steps, options.warmup, matmul["flops_per_second"]
        if options.autotune:
            found = fill_memory(config, seconds, memory, *how, say=told)
        else:
            found = unless_out_of_memory(partial(measure_step, config, rows, seconds, *how))
        if found is None:
            raise UserError(
                f"{counted(rows, 'row')} of {seconds:g} s: more than the device's memory; "
                "use fewer --rows, or --autotune",
                results,
            )
        print(line(found), flush=True)
        runs.append(found)
    if not options.autotune:
        return results
    most = batch_seconds({run["seconds"]: run["rows"] for run in runs})
    print(f"these fill {memory / 1e9:.3g} GB a device; for a config, of which every bucket then fits:")
    print(f"    config.data.batch_seconds = {most:g}")
    return results | {"memory_bytes": memory, "batch_seconds": most}


def told(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def sheet(kind: str) -> str:
    chip = chip_of(kind)
    return f"{chip.flops / 1e12:g} TFLOP/s" if chip else f"not known of {kind}"


def line(found: dict[str, Any]) -> str:
    """One row of the table; flops by XLA are of one device."""
    median, least, most = (1e3 * found[f"step_seconds_{which}"] for which in ("median", "min", "max"))
    xla, of_sheet = found["flops_xla"], found.get("mfu_of_sheet")
    return (
        f"{found['rows']:>6} x {found['seconds']:>5g} s {found['compile_seconds']:>9.1f} "
        f"{found['peak_bytes'] / 1e9:>8.3g} {f'{median:.2f} ({least:.2f}, {most:.2f})':>26} "
        f"{found['audio_seconds_per_second']:>10.0f} {found['audio_hours_per_device_hour']:>10.0f} "
        f"{found['model_flops'] / 1e9:>9.4g} {'-' if xla is None else format(xla / 1e9, '.4g'):>9} "
        f"{found['flops_per_second'] / 1e12:>8.3g} {found['mfu_of_matmul']:>9.1%} "
        f"{'-' if of_sheet is None else format(of_sheet, '.1%'):>8}"
    )
