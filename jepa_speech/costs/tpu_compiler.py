"""A train step compiled for TPUs that are not there, by libtpu's own compiler, and what it says of the program."""

import importlib.util
import os
import re
import time
from collections import Counter
from importlib.metadata import version
from typing import Any

import jax
from jax.experimental import topologies  # 2026-11: the only way to devices that are not there

from jepa_speech.costs.batch_autotune import out_of_memory
from jepa_speech.costs.collectives import collectives, sent_by_kind
from jepa_speech.costs.largest_arrays import largest_arrays
from jepa_speech.costs.speed import Setting
from jepa_speech.errors import UsageError, UserError
from jepa_speech.platform import written_for
from jepa_speech.training.compiled import as_it_is_written, cost_of, for_tpu

SLICE = re.compile(r"(?:(\d+) ?x ?)?((?:v5e|v5p|v6e):\d+(?:x\d+)+)")
# Else libtpu asks the cloud's metadata server what it runs on, and complains on stderr where there is none.
QUIET = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # no device is used, so programs may compile side by side
}
TARGET = re.compile(r'custom_call_target="([^"]*)"')
AMOUNT = r"([\d.]+)([KMGT])"
NEEDED = re.compile(rf"temporaries \({AMOUNT}\) exceeds available HBM \({AMOUNT}\)|Used {AMOUNT} of {AMOUNT} hbm")
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def slice_devices(topology: str) -> list[Any]:
    """The devices of v5e:2x4, v5p:2x2x2, v6e:16x16, or of several such slices, as 2x v5e:16x16.

    Raises UsageError for another topology, UserError without libtpu.
    """
    if not (found := SLICE.fullmatch(topology)):
        raise UsageError(f"slice {topology!r}: write it as v5e:2x4, v5p:2x2x2 or v6e:16x16; two slices as 2xv5e:16x16")
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("the TPU compiler (libtpu) is not installed: pip install --editable '.[tpu-plan]'")
    os.environ |= QUIET | os.environ
    slices, shape = found.groups()
    several = {"num_slices": int(slices)} if slices else {}
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=shape, **several).devices
    except jax.errors.JaxRuntimeError as error:
        raise UsageError(f"slice {topology!r}: {error}") from error


def versions() -> dict[str, str]:
    return {name: version(name) for name in ("jax", "libtpu")}


def compiled_for_tpu(setting: Setting, rows: int, samples: int) -> dict[str, Any]:
    """Compiles the step of a setting whose devices are `slice_devices`, for so many rows of samples.

    Returns the figures of `Cost`, bytes of one device; also
        compile_seconds, and compile_cpu_seconds of processor time on all cores
        program_bytes of the program itself · custom_calls (target -> their number in the program)
        estimate_seconds: the compiler's own estimate of a step; None where the program has custom calls, each of which
        counts as minus one second (libtpu 0.0.42.1)
        largest_arrays: what the function of this name returns
        sent: bytes of a device in a step, by kind of collective · collectives: a list, the fields of `Collective`
    or, where the program does not fit into a device, only
        compile_seconds, compile_cpu_seconds · needed_bytes, perhaps of the temporaries alone · memory_bytes, what a
        program may have
    """
    batch, began, began_cpu = setting.batch(rows, samples), time.perf_counter(), time.process_time()
    step: Any = setting.step
    with written_for("tpu"):
        traced = step.trace(setting.state, batch)
    try:
        compiled = for_tpu(traced.lower())
    except jax.errors.JaxRuntimeError as error:
        if not out_of_memory(error) or not (memory := exceeded(str(error))):
            raise
        needed, most = memory
        return took(began, began_cpu) | {"needed_bytes": needed, "memory_bytes": most}
    times, text = took(began, began_cpu), compiled.as_text()
    calls, exchanges = Counter(TARGET.findall(text)), collectives(text)
    estimate = (compiled.cost_analysis() or {}).get("optimal_seconds")
    return (
        cost_of(compiled, as_it_is_written(step, setting.state, batch), batch).fields()
        | times
        | {
            "program_bytes": compiled.memory_analysis().generated_code_size_in_bytes,
            "custom_calls": dict(calls),
            "estimate_seconds": None if calls else estimate,
            "largest_arrays": largest_arrays(text),
            "sent": sent_by_kind(exchanges),
            "collectives": [c._asdict() | {"sent": c.sent} for c in exchanges],
        }
    )


def took(began: float, began_cpu: float) -> dict[str, float]:
    """The seconds since two readings of the clock, and those of processor time of all this process's threads."""
    return {
        "compile_seconds": time.perf_counter() - began,
        "compile_cpu_seconds": time.process_time() - began_cpu,
    }


def exceeded(message: str) -> tuple[float, float] | None:
    """The bytes that a program needs and those that it may have, from the compiler's message that they are too many."""
    if not (found := NEEDED.search(message)):
        return None
    number, unit, limit, limit_unit = filter(None, found.groups())
    return float(number) * UNITS[unit], float(limit) * UNITS[limit_unit]
