"""`jepa-speech bench step`: the train step of a config alone, on noise: no store, no anchor, no loader."""

import argparse
from collections.abc import Mapping
from typing import Any

from jepa_speech.api.bench import bench_step
from jepa_speech.cli.commands import arguments
from jepa_speech.errors import UserError
from jepa_speech.local_paths import local_path

HELP = "run the compiled train step of a config on noise: speed, work, memory, and what share of the chip that is"
EXAMPLE = "jepa-speech bench step --config configs/smoke.py:hubert --seconds 4"
COLUMNS = (
    f"{'batch':>16} {'compile s':>9} {'peak GB':>8} {'step ms (min, max)':>26} {'audio-s/s':>10} {'h/device-h':>10} "
    f"{'GFLOP':>9} {'by XLA':>9} {'TFLOP/s':>8} {'of matmul':>9} {'of sheet':>8}"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=local_path,
        required=True,
        metavar="FILE[:VARIANT]",
        help="such as configs/smoke.py, or smoke for the package's own",
    )
    parser.add_argument("--rows", type=int, metavar="N", help="rows of a batch (default: as data.batch_seconds allows)")
    parser.add_argument(
        "--seconds",
        type=float,
        nargs="+",
        metavar="S",
        help="length of each row, one measurement each (default: data.buckets)",
    )
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="timed steps (default: 20)")
    parser.add_argument("--warmup", type=int, default=3, metavar="N", help="untimed warm-up steps (default: 3)")
    parser.add_argument("--autotune", action="store_true", help="find how many rows of each length memory holds")
    parser.add_argument(
        "--memory-gb", type=float, metavar="G", help="of a device, for --autotune (default: the device's memory)"
    )
    parser.description = f"{parser.description}; --config.KEY=VALUE changes a key of the config"


def run(options: argparse.Namespace) -> dict[str, Any]:
    try:
        results = bench_step(**arguments(options, bench_step), progress=True)
    except UserError as error:
        if error.results is not None:
            show(error.results)
        raise
    show(results)
    if "batch_seconds" in results:
        filled = f"{results['memory_bytes'] / 1e9:.3g} GB a device"
        print(f"these fill {filled}; use this value so that every bucket fits:")
        print(f"    config.data.batch_seconds = {results['batch_seconds']:g}")
    return results


def show(results: Mapping[str, Any]) -> None:
    """Prints what was measured: the device, and a row of the table for each length."""
    kind, flops, matmul = results["device_kind"], results["sheet_flops"], results["matmul"]
    print(f"{results['config']}, {results['objective']}: {results['devices']} x {kind} ({results['platform']})")
    print(
        f"a chip multiplies {matmul['dtype']} matrices of {matmul['size']} at {matmul['flops_per_second'] / 1e12:.3g} "
        f"TFLOP/s; data sheet (bfloat16): {f'{flops / 1e12:g} TFLOP/s' if flops else f'not known of {kind}'}"
    )
    print(COLUMNS)
    for found in results["runs"]:
        print(line(found))


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
