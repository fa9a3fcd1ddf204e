"""The step, compiled ahead of its first call, and what it costs: memory and work."""

import hashlib
import math
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax

# 2026-11: jax.config's jax_compilation_cache_dir would replace set_cache_dir; reset_cache and dce_jaxpr (jax prunes
# jaxpr modules step by step) have no public replacement.
from jax.experimental.compilation_cache import compilation_cache
from jax.interpreters.partial_eval import dce_jaxpr

from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.platform import as_written

# Scopes of what is computed twice: as jax calls it, and the pass over all micro-batches before their gradients.
REMAT, BEFOREHAND = "rematted_computation", "beforehand"
# Products by cuBLAS, in the way that it proposes: XLA else writes dozens of kernels for each and tries them all. HuBERT
# Base's step compiles in half a minute on an H100; with XLA's defaults it did not in a minute and a half.
# Kernels one by one: as a recorded graph of a thousand, the part behind the branch of a report, which the host decides,
# begins 16 ms late, a fifth of that step.
GPU_OPTIONS = {
    "xla_gpu_enable_triton_gemm": False,
    "xla_gpu_autotune_level": 0,
    "xla_gpu_graph_min_graph_size": 1_000_000,
}
# Else a convolution of few rows is computed as one of eight parts of each row, with copies of its input and output in
# several layouts: twice as much memory for the front-end, and twice as large a program (libtpu 0.0.42.1).
TPU_OPTIONS = {"xla_tpu_run_space_to_batch": False, "xla_tpu_run_space_to_batch_on_new_platforms": False}
UNKNOWN_OPTION = "No such compile option"  # begins the message of any backend
CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
SHARED_VARIABLE = "JEPA_SPEECH_COMPILED"  # set by `compiled_once_by_commands` alone
KEPT_SECONDS = 0.1  # what takes longer to compile is kept; jax's own limit, 1 s, leaves out most programs of a probe


def compiler_options() -> dict[str, Any] | None:
    """For jax.jit or compile: GPU_OPTIONS where a GPU computes."""
    return GPU_OPTIONS if jax.default_backend() == "gpu" else None


def for_tpu(lowered: Any) -> Any:
    """Compiles a step for TPUs with TPU_OPTIONS, or without them, and a warning, where libtpu does not know them."""
    try:
        return lowered.compile(TPU_OPTIONS)
    except jax.errors.JaxRuntimeError as error:
        if UNKNOWN_OPTION not in str(error):
            raise
        warnings.warn(f"compiling without options that save memory, which this libtpu refuses: {error}", stacklevel=2)
        return lowered.compile()


class Cost(NamedTuple):
    """Of one call of a compiled step. Bytes are those of one device, flops those of all devices together."""

    arguments: int
    outputs: int
    temporaries: int
    aliased: int  # outputs that lie where arguments lay
    flops: int  # of matrix products and convolutions
    flops_xla: float | None  # of everything, on one device, a loop's body once; None if the backend reports none
    audio_seconds: float  # in the batch, padding included
    flops_again: int = 0  # of flops, those of what is computed a second time: not the model's own

    @property
    def peak(self) -> int:
        """An estimate of the bytes that a device needs: what is alive at once may be less."""
        return self.arguments + self.outputs + self.temporaries - self.aliased

    @property
    def model_flops(self) -> int:
        """What the step is about, forward and backward; what a device is used for without it is no use of it (MFU)."""
        return self.flops - self.flops_again

    def fields(self) -> dict[str, Any]:
        """For an event."""
        return self._asdict() | {"peak": self.peak, "flops_per_audio_second": round(self.flops / self.audio_seconds)}

    def __str__(self) -> str:
        return (
            f"{self.peak / 1e9:.2f} GB a device (arguments {self.arguments / 1e9:.2f}, temporaries "
            f"{self.temporaries / 1e9:.2f}), products of {self.flops / 1e12:.3g} TFLOP a step, "
            f"{self.flops / self.audio_seconds / 1e9:.3g} GFLOP a second of audio"
        )


def compile_step(
    step: Any, state: Any, batch: Mapping[str, jax.Array | jax.ShapeDtypeStruct]
) -> tuple[jax.stages.Compiled, Cost]:
    """The jitted `step` for exactly these shapes and shardings (arrays or jax.ShapeDtypeStruct), and its cost."""
    traced = step.trace(state, batch)
    lowered, backend = traced.lower(), jax.default_backend()
    compiled = for_tpu(lowered) if backend == "tpu" else lowered.compile(compiler_options())
    plain = traced.jaxpr.jaxpr if backend == "cpu" else as_it_is_written(step, state, batch)
    return compiled, cost_of(compiled, plain, batch)


def cost_of(compiled: jax.stages.Compiled, jaxpr: Any, batch: Mapping[str, jax.Array | jax.ShapeDtypeStruct]) -> Cost:
    """The cost of a compiled step. jaxpr: of the same step, in plain forms."""
    rows, samples = batch["audio"].shape
    memory, analysis = compiled.memory_analysis(), compiled.cost_analysis()
    arguments, outputs, temporaries, aliases = (
        getattr(memory, f"{what}_size_in_bytes", 0) for what in ("argument", "output", "temp", "alias")
    )
    if isinstance(analysis, list):  # some versions of jax give one for each partition, all alike
        analysis = analysis[0] if analysis else None
    flops = (analysis or {}).get("flops")
    every, once = (product_flops(jaxpr, once) for once in (False, True))
    seconds = rows * samples / SAMPLE_RATE
    return Cost(arguments, outputs, temporaries, aliases, every, flops, seconds, every - once)


def as_it_is_written(step: Any, state: Any, batch: Mapping[str, jax.Array | jax.ShapeDtypeStruct]) -> Any:
    """The jaxpr of the jitted `step` in plain forms, whatever device is at hand: what of it is the model's work."""
    with as_written():
        return jax.make_jaxpr(step.__wrapped__)(state, batch).jaxpr


@contextmanager
def compilation_cache_of(workdir: Path) -> Iterator[None]:
    """Inside, jax keeps what it compiles, for the next start of this run: in the user's cache folder, one for each run.

    Not in the run folder: programs found there are executed, and a run may be a stranger's. Not with one folder for all
    runs: jax writes a program in place, so that another process might read half of it. Not with several processes:
    only the first would find its programs, while the others wait for it where kernels are tuned together. Not on
    several pretended devices of a CPU: programs that are loaded there run collectives in any order, and hang (jax
    0.10.2). Nothing is done where JAX_COMPILATION_CACHE_DIR is set (empty: no cache).
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    run = hashlib.sha256(os.fsencode(workdir.resolve())).hexdigest()[:12]
    with _cached_in(str(home / "jepa-speech" / "compiled" / run)):
        yield


@contextmanager
def compiled_once() -> Iterator[None]:
    """Inside, checkpoints of one architecture share what is compiled, in a temporary folder that no training uses."""
    with tempfile.TemporaryDirectory(prefix="jepa-speech-") as folder, _cached_in(folder):
        yield


@contextmanager
def compiled_once_by_commands() -> Iterator[None]:
    """Inside, commands of this program that are started one after the other share what they compile."""
    with tempfile.TemporaryDirectory(prefix="jepa-speech-") as folder:
        os.environ[SHARED_VARIABLE] = folder
        try:
            yield
        finally:
            del os.environ[SHARED_VARIABLE]


@contextmanager
def _cached_in(folder: str) -> Iterator[None]:
    folder = os.environ.get(SHARED_VARIABLE, folder)
    chosen = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]  # jax adds its options later
    chosen = chosen or CACHE_VARIABLE in os.environ
    if chosen or jax.process_count() > 1 or (jax.default_backend() == "cpu" and jax.device_count() > 1):
        yield
        return
    least = jax.config.jax_persistent_cache_min_compile_time_secs  # type: ignore[attr-defined]
    jax.config.update("jax_persistent_cache_min_compile_time_secs", min(least, KEPT_SECONDS))
    use_cache(folder)
    try:
        yield
    finally:
        use_cache(None)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", least)


def use_cache(folder: str | None) -> None:
    compilation_cache.set_cache_dir(folder)
    compilation_cache.reset_cache()  # else jax keeps to what it found at the first program that it compiled


def product_flops(jaxpr: Any, once: bool = False) -> int:
    """Floating-point operations of the matrix products and convolutions of a jaxpr: 2 for each multiplication.

    A scan's body counts as often as it runs, the largest branch of a conditional counts, the body of a loop of unknown
    length once. Where a transposed convolution puts zeros between its inputs, those are not counted.

    once: without what is computed a second time to save memory, by `jax.checkpoint` or for another micro-batch's sake.
    """
    total = 0
    live, _ = dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))  # XLA drops what is not used, so it is no work
    for equation in live.eqns:
        name, parameters = equation.primitive.name, equation.params
        if once and any(scope in str(equation.source_info.name_stack) for scope in (REMAT, BEFOREHAND)):
            continue
        inner = [product_flops(sub, once) for sub in inner_jaxprs(parameters)]
        if name == "scan":
            total += parameters["length"] * sum(inner)
        elif name == "cond":
            total += max(inner)
        elif name == "dot_general":
            (contracted, _), _ = parameters["dimension_numbers"]
            lhs, out = shape_of(equation.invars[0]), shape_of(equation.outvars[0])
            total += 2 * math.prod(out) * math.prod(lhs[axis] for axis in contracted)
        elif name == "conv_general_dilated":
            rhs, out = shape_of(equation.invars[1]), shape_of(equation.outvars[0])
            taps = math.prod(rhs[axis] for axis in parameters["dimension_numbers"].rhs_spec[1:])
            total += 2 * math.prod(out) * taps // math.prod(parameters["lhs_dilation"])
        else:
            total += sum(inner)
    return total


def shape_of(variable: Any) -> tuple[int, ...]:
    """The shape of a variable or constant of a jaxpr that is an array."""
    return variable.aval.shape


def inner_jaxprs(parameters: Mapping[str, Any]) -> Iterator[Any]:
    for value in parameters.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            item = getattr(item, "jaxpr", item)  # a closed one holds it
            if hasattr(item, "eqns"):
                yield item
