"""How many rows of a length fit into a device's memory: asked of the compiler first, then tried."""

import gc
import math
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
from ml_collections import ConfigDict

from jepa_speech.errors import UsageError
from jepa_speech.train.speed import Setting, crop_samples, make_setting, measure_step, rows_of

SHARE = 0.95  # of the memory: some of it is in pieces that are too small


def memory_of_a_device() -> float:
    """Bytes that jax may use of one; of a CPU's, an equal share of the machine's."""
    stats = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / jax.local_device_count()


def fill_memory(
    config: ConfigDict,
    seconds: float,
    memory: float | None = None,
    steps: int = 20,
    warmup: int = 3,
    matmul_flops: float | None = None,
) -> dict[str, Any]:
    """The most rows of `seconds` whose step, as compiled, needs no more than 0.95 of `memory` (bytes of a device;
    None: all that there is), and which then ran. Where they do not run for want of memory, fewer are tried.

    Returns what `measure_step` does, and memory_bytes, compiled_rows (what the compiler found to fit), shapes_compiled.
    Raises UsageError where not even the smallest batch fits.
    """
    setting = make_setting(config)
    memory = memory or memory_of_a_device()
    samples, asked = crop_samples(setting, setting.multiple, seconds), {}

    def peak(rows: int) -> float:
        asked[rows] = compiled_peak(setting, rows, samples)
        return asked[rows]

    compiled_rows = rows = largest(peak, SHARE * memory, rows_of(setting, seconds), setting.multiple)
    while rows:
        if found := unless_out_of_memory(partial(measure_step, config, rows, seconds, steps, warmup, matmul_flops)):
            told = {"memory_bytes": memory, "compiled_rows": compiled_rows, "shapes_compiled": len(asked)}
            return found | told
        rows -= max(setting.multiple, rows // 20 // setting.multiple * setting.multiple)
    raise UsageError(
        f"not even {setting.multiple} rows of {seconds:g} s fit into {memory / 1e9:.3g} GB a device: choose shorter "
        "data.buckets, set encoder.remat = True, or raise mesh.fsdp"
    )


def compiled_peak(setting: Setting, rows: int, samples: int) -> float:
    """Bytes of a device, with the next batch, which training places while a step runs; infinite where the compiler
    itself runs out of them.
    """
    compiled = unless_out_of_memory(lambda: setting.compile(rows, samples))
    if compiled is None:
        return math.inf
    batch = sum(math.prod(s.shape) * s.dtype.itemsize for s in setting.batch(rows, samples).values())
    return compiled[1].peak + batch / jax.device_count()


def unless_out_of_memory(work: Callable[[], Any]) -> Any:
    """What it returns; None where XLA says that memory does not do. Any other error is raised."""
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
    """The largest multiple of `multiple` whose peak is at most `limit`, 0 if there is none; peak grows with it.

    Doubling or halving from `start`, then between what fits and what does not: where a straight line through both
    peaks meets the limit, for peaks are nearly that, but every third time in the middle.
    """
    low, high = (0, 0.0), (max(multiple, start // multiple * multiple), 0.0)
    while (found := peak(high[0])) <= limit:
        low, high = (high[0], found), (2 * high[0], 0.0)
    high, turns = (high[0], found), 0
    while high[0] - low[0] > multiple:
        turns += 1
        span, rise = high[0] - low[0], high[1] - low[1]
        share = 0.5
        if low[0] and turns % 3 and 0 < rise < math.inf:
            share = (limit - low[1]) / rise
        rows = low[0] + int(share * span) // multiple * multiple
        rows = min(max(rows, low[0] + multiple), high[0] - multiple)
        found = peak(rows)
        low, high = ((rows, found), high) if found <= limit else (low, (rows, found))
    return low[0]


def batch_seconds(rows: Mapping[float, int]) -> float:
    """The data.batch_seconds by which training takes as many rows of a bucket as memory holds, and of no bucket more.

    rows: seconds of a bucket -> rows that fit. To the millisecond.
    """
    seconds, count = min(rows.items(), key=lambda item: item[0] * item[1])
    found = round(seconds * count, 3)
    return found if int(found / seconds) == count else round(found + 0.001, 3)  # 0.6 / 0.2 is less than 3
