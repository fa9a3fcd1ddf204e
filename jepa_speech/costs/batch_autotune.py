"""How many rows of a length fit into a device's memory: asked of the compiler first, then tried."""

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

SHARE = 0.95  # of the memory: some of it is in pieces that are too small


def memory_of_a_device() -> float:
    """Bytes that jax may use of one; of a CPU's, an equal share of the machine's."""
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
    """The most rows of `seconds` whose step, as compiled, needs no more than 0.95 of `memory` (bytes of a device;
    None: all that there is), and which then ran. Where they do not run for want of memory, fewer are tried.

    say: told of each try. Returns what `measure_step` does, and memory_bytes, compiled_rows (what the compiler found to
    fit), shapes_compiled. Raises UsageError where not even the smallest batch fits.
    """
    setting = make_setting(config)
    memory = memory or memory_of_a_device()
    samples, asked = crop_samples(setting, seconds), {}

    def peak(rows: int) -> float:
        asked[rows] = compiled_peak(setting, rows, samples)
        say(f"{counted(rows, 'row')} of {seconds:g} s: {asked[rows] / 1e9:.3g} GB a device, as compiled")
        return asked[rows]

    compiled_rows = rows = largest(peak, SHARE * memory, rows_of(setting, seconds), setting.multiple)
    while rows:
        if found := unless_out_of_memory(partial(measure_step, config, rows, seconds, steps, warmup, matmul_flops)):
            told = {"memory_bytes": memory, "compiled_rows": compiled_rows, "shapes_compiled": len(asked)}
            return found | told
        say(f"{counted(rows, 'row')} of {seconds:g} s did not run: out of memory")
        rows -= max(setting.multiple, rows // 20 // setting.multiple * setting.multiple)
    raise UsageError(
        f"not even {counted(setting.multiple, 'row')} of {seconds:g} s fit into {memory / 1e9:.3g} GB a device: choose "
        "shorter data.buckets, set encoder.remat = True, or raise mesh.fsdp"
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

    From `start`, doubled until it does not fit, then halfway between what fits and what does not. But peaks are nearly
    a straight line: two times of three, the next is where the line through the last two peaks meets the limit.
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
    """The data.batch_seconds by which training takes as many rows of a bucket as memory holds, and of no bucket more.

    rows: seconds of a bucket -> rows that fit. To the millisecond.
    """
    seconds, count = min(rows.items(), key=lambda item: item[0] * item[1])
    found = round(seconds * count, 3)
    return found if int(found / seconds) == count else round(found + 0.001, 3)  # 0.6 / 0.2 is less than 3
