"""The number of rows of a length that fit into a device's memory, estimated by the compiler and then tested."""

import gc
import math
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax

from jepa_speech.costs.speed import Setting, crop_samples, make_setting, measure_step, rows_of
from jepa_speech.errors import UsageError
from jepa_speech.settings.run_config import RunConfig
from jepa_speech.wording import counted

SHARE = 0.95  # usable share of the memory, because of fragmentation


def memory_of_a_device() -> float:
    """Returns the bytes that jax may use of a device; for a CPU, an equal share of the machine's memory."""
    stats = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / jax.local_device_count()


def fill_memory(
    config: RunConfig,
    seconds: float,
    memory: float | None = None,
    steps: int = 20,
    warmup: int = 3,
    matmul_flops: float | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Finds the most rows of `seconds` that fit into a device, and measures their step.

    The compiled step may need 0.95 of `memory` (bytes of a device; None: all). If it runs out of memory, fewer rows are
    tried. say: called with a line about each try. Returns the results of `measure_step`, and memory_bytes,
    compiled_rows (the compiler's estimate), shapes_compiled. Raises UsageError if not even the smallest batch fits.
    """
    setting = make_setting(config)
    memory = memory or memory_of_a_device()
    samples, asked = crop_samples(setting, seconds), {}

    def peak(rows: int) -> float:
        asked[rows] = compiled_peak(setting, rows, samples)
        say(f"{counted(rows, 'row')} of {seconds:g} s: {asked[rows] / 1e9:.3g} GB per device, as compiled")
        return asked[rows]

    compiled_rows = rows = largest(peak, SHARE * memory, rows_of(setting, seconds), setting.multiple)
    while rows:
        if found := unless_out_of_memory(partial(measure_step, config, rows, seconds, steps, warmup, matmul_flops)):
            return found | {"memory_bytes": memory, "compiled_rows": compiled_rows, "shapes_compiled": len(asked)}
        say(f"{counted(rows, 'row')} of {seconds:g} s did not run: out of memory")
        rows -= max(setting.multiple, rows // 20 // setting.multiple * setting.multiple)
    raise UsageError(
        f"not even {counted(setting.multiple, 'row')} of {seconds:g} s fit into {memory / 1e9:.3g} GB per device: "
        "choose shorter data.buckets, set encoder.remat = True, or raise mesh.fsdp"
    )


def compiled_peak(setting: Setting, rows: int, samples: int) -> float:
    """Returns the bytes that a step needs on a device, with the next batch, which training places during the step.

    Returns infinity if the compiler itself runs out of memory.
    """
    compiled = unless_out_of_memory(lambda: setting.compile(rows, samples))
    if compiled is None:
        return math.inf
    batch = sum(math.prod(s.shape) * s.dtype.itemsize for s in setting.batch(rows, samples).values())
    return compiled[1].peak + batch / jax.device_count()


def unless_out_of_memory(work: Callable[[], Any]) -> Any:
    """Returns `work()`, or None if XLA runs out of memory. Raises any other error."""
    try:
        return work()
    except jax.errors.JaxRuntimeError as error:
        if not out_of_memory(error):
            raise
    gc.collect()  # the error's frames, which hold arrays, may be part of a cycle
    return None


def out_of_memory(error: jax.errors.JaxRuntimeError) -> bool:
    return "RESOURCE_EXHAUSTED" in str(error)


def largest(peak: Callable[[int], float], limit: float, start: int, multiple: int) -> int:
    """Returns the largest multiple of `multiple` whose peak is at most `limit`, 0 if there is none.

    peak: an increasing function. Doubles from `start` until it does not fit, then bisects. Because peaks are nearly
    linear, two of three steps extrapolate the line through the last two peaks instead.
    """
    fit: list[tuple[int, float]] = []
    over: tuple[int, float] | None = None
    rows, turns = max(multiple, start // multiple * multiple), 0
    while True:
        turns, found = turns + 1, peak(rows)
        if found <= limit:
            fit.append((rows, found))
        else:
            over = (rows, found)
        low = fit[-1][0] if fit else 0
        if over and over[0] - low <= multiple:
            return low
        rows = (low + over[0]) // 2 if over else 2 * low
        known = ([*fit, over] if over and over[1] < math.inf else fit)[-2:]
        if turns % 3 and len(known) == 2 and known[0][1] < known[1][1]:
            (a, peak_a), (b, peak_b) = known
            rows = a + int((limit - peak_a) / (peak_b - peak_a) * (b - a))
        most = over[0] - multiple if over else 16 * low
        rows = min(max(rows // multiple * multiple, low + multiple), most)


def batch_seconds(rows: Mapping[float, int]) -> float:
    """Returns the largest data.batch_seconds, to the millisecond, with which the rows of every bucket fit into memory.

    rows: seconds of a bucket -> rows that fit.
    """
    seconds, count = min(rows.items(), key=lambda item: item[0] * item[1])
    found = round(seconds * count, 3)
    return found if int(found / seconds) == count else round(found + 0.001, 3)  # 0.6 / 0.2 is less than 3
