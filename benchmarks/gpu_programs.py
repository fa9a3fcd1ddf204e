"""The programs that benchmarks/gpu.py times, each run by it in a process of its own."""

import fcntl
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HERE = Path(__file__).parent
TURNS, WARMUP, TOGETHER = 10, 2, 5  # of so many steps, one dispatched after the other, as training does
SETTLE = 0.2  # seconds until the device has done what was sent to it before
OTHERS, STARTS = ("features", "anchors"), ("cold start", "warm start")
CHANGES = {"": [], "online": ["anchor.source=online"]}


class Size(NamedTuple):
    """Of the batch. toy: tiny models on the CPU."""

    rows: int
    seconds: float
    toy: bool

    @property
    def device(self) -> str:
        return "cpu" if self.toy else "cuda"

    def config(self, name: str, *overrides: str) -> Any:
        from jepa_speech.training.configfile import load_config

        file = f"tiny.py:{name}" if self.toy else f"{name}.py"
        return load_config(str(HERE.parent / "configs" / file), overrides)


class Device:
    """The GPU. Programs share it while they compile, which also runs kernels. While one is timed, the others are paused
    (SIGSTOP), with the processes that compile for them, so that it need not wait for their compilation.
    """

    def __init__(self) -> None:
        self.folder = Path(os.environ["JEPA_SPEECH_BENCH_LOCK"])
        self.folder.mkdir(exist_ok=True)
        self.lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT)
        with self.locked():
            (self.folder / f"{os.getpgrp()}.program").touch()

    @contextmanager
    def locked(self) -> Iterator[None]:
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self.lock, fcntl.LOCK_UN)

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self.locked():
            others = [group for group in groups(self.folder) if group != os.getpgrp()]
            send(signal.SIGSTOP, others)
            try:
                time.sleep(SETTLE)
                yield
            finally:
                send(signal.SIGCONT, others)

    def leave(self) -> None:
        (self.folder / f"{os.getpgrp()}.program").unlink()


def groups(folder: Path) -> list[int]:
    """Returns the process groups of programs that have started and not ended."""
    return [int(path.stem) for path in folder.glob("*.program")]


def send(what: signal.Signals, groups: list[int]) -> None:
    for group in groups:
        with suppress(ProcessLookupError):  # it has ended
            os.killpg(group, what)


def send_all(what: signal.Signals) -> None:
    send(what, groups(Path(os.environ["JEPA_SPEECH_BENCH_LOCK"])))


def matmul(device: Device, size: Size) -> dict[str, Any]:
    """Measures this GPU's rate in products of matrices, the denominator of MFU."""
    from jepa_speech.costs.speed import matmul_rate

    with device.alone():
        return matmul_rate("bfloat16", sizes=(64 if size.toy else 8192,))


def ours(device: Device, name: str, size: Size, matmul_flops: float, trace: str) -> dict[str, Any]:
    import jax

    from jepa_speech.costs.speed import measure_step

    config_name, _, change = name.partition(":")
    config = size.config(config_name, *CHANGES[change])
    if hasattr(config.encoder, "layerdrop"):
        config = replace(config, encoder=replace(config.encoder, layerdrop=0.0))
    folder = Path(trace, name.replace(":", "-")) if trace else None
    how = matmul_flops, device.alone(), folder, TOGETHER
    found = measure_step(config, size.rows, size.seconds, TURNS, WARMUP, *how)
    return found | {"device": jax.devices()[0].device_kind}


def peer(device: Device, name: str, size: Size) -> dict[str, Any]:
    import importlib

    module, _, system = name.partition(":")
    began = time.perf_counter()
    made = importlib.import_module(f"peers.{module}").make(
        system, size.rows, size.seconds, size.device, compile=not size.toy, toy=size.toy
    )
    wait = waiting(size)
    made.step()
    wait()
    compile_seconds, times = time.perf_counter() - began, []
    with device.alone():
        for _ in range(WARMUP + TURNS):
            began = time.perf_counter()
            for _ in range(TOGETHER):
                loss = made.step()
            wait()
            times.append((time.perf_counter() - began) / TOGETHER)
    return made.describe() | {"loss": float(loss), "compile_seconds": compile_seconds} | spread(times[WARMUP:], size)


def waiting(size: Size) -> Callable[[], None]:
    """Waits for torch's work on the device."""
    import torch

    return (lambda: None) if size.toy else torch.cuda.synchronize


def spread(times: list[float], size: Size) -> dict[str, float]:
    median = statistics.median(times)
    return {
        "step_seconds_median": median,
        "step_seconds_min": min(times),
        "step_seconds_max": max(times),
        "audio_seconds_per_second": size.rows * size.seconds / median,
    }


def anchors(device: Device, size: Size) -> dict[str, Any]:
    """Times EM and posteriors, K = 1024, D = 80: ours, scikit-learn on this machine, torch's (N, K, D) broadcast.

    Posteriors "on the device" start and end there, as in a step; the others are copied to the host.
    """
    import anchors as mixtures
    import jax
    import torch

    from jepa_speech.anchors import em, gmm
    from jepa_speech.anchors.frames import batches

    counts = mixtures.Size(8, 80, 1000, 1000) if size.toy else mixtures.Size()
    z, means = mixtures.data(counts)
    mine, sklearn = (whose(z, means, counts.posteriors) for whose in (mixtures.ours, mixtures.theirs))
    wait, x = waiting(size), torch.tensor(z[: counts.posteriors], device=size.device)
    mu = torch.tensor(means, device=size.device).float()

    def broadcast() -> None:
        for part in x.split(500):  # as public code of this method does
            torch.softmax(-0.5 * (part[:, None] - mu).square().sum(-1), -1)
        wait()

    frames = {"one EM iteration": counts.frames, "posteriors": counts.posteriors}
    runs = {
        f"{what}, {whose}": steps[what] for what in frames for whose, steps in (("ours", mine), ("sklearn", sklearn))
    }
    frames["posteriors on the device"] = counts.posteriors
    runs["posteriors on the device, torch broadcast"] = broadcast
    arrays = em.Parameters(np.full(len(means), 1 / len(means)), means, np.ones_like(means)).arrays()
    parts, jitted = [jax.device_put(part) for part, _ in batches(z[: counts.posteriors])], jax.jit(gmm.posteriors)
    runs["posteriors on the device, ours"] = lambda: jax.block_until_ready([jitted(arrays, part) for part in parts])
    for name in runs.keys() - {"one EM iteration, sklearn", "posteriors, sklearn"}:
        runs[name]()  # compiles
    found = {}
    with device.alone():
        for name, run in runs.items():
            times = []
            for _ in range(1 if "sklearn" in name else 3):  # it takes ten seconds
                began = time.perf_counter()
                run()
                times.append(time.perf_counter() - began)
            found[name] = frames[name.partition(",")[0]] / statistics.median(times)
    return {"frames_per_second": found, "cores": os.cpu_count()}


def features(device: Device, size: Size) -> dict[str, Any]:
    """Times the extraction of all layers of HuBERT Base from one hour of noise, as for a probe."""
    import jax
    import jax.numpy as jnp

    from jepa_speech.costs.synthetic import filled_in
    from jepa_speech.objectives import build
    from jepa_speech.training.compiled import compiler_options
    from jepa_speech.training.state import drawn_by_kernel

    objective = build(filled_in(size.config("hubert")))
    with drawn_by_kernel(wanted=not size.toy):
        params, aux_state = jax.jit(objective.init)(jax.random.PRNGKey(0))
    wave = jax.random.normal(jax.random.PRNGKey(1), (size.rows, round(size.seconds * 16_000)))
    given = params, aux_state, wave, jnp.full(size.rows, wave.shape[1])
    represent = jax.jit(objective.represent, compiler_options=compiler_options())
    return an_hour(device, lambda: jax.block_until_ready(represent(*given)), size)


def peer_features(device: Device, size: Size) -> dict[str, Any]:
    from peers.features import make

    run, wait = make(size.rows, size.seconds, size.device, size.toy), waiting(size)

    def batch() -> None:
        run()
        wait()

    return an_hour(device, batch, size)


def an_hour(device: Device, batch: Callable[[], Any], size: Size) -> dict[str, Any]:
    batch()  # compiles
    times = []
    with device.alone():
        for _ in range(3 if size.toy else round(3600 / (size.rows * size.seconds))):
            began = time.perf_counter()
            batch()
            times.append(time.perf_counter() - began)
    return spread(times, size)


def start(device: Device, size: Size) -> dict[str, Any]:
    """Times a start: from the start of the process to the end of its first step, and the compiler's share of it."""
    from jepa_speech.costs.speed import measure_step
    from jepa_speech.training.ledger import process_began

    began = time.monotonic()
    with device.alone():
        waited = time.monotonic() - began
        found = measure_step(size.config("hubert"), size.rows, size.seconds, steps=1, warmup=0)
    return {"seconds": time.time() - process_began() - waited, "compile_seconds": found["compile_seconds"]}


def work(kind: str, name: str, size: Size, matmul_flops: float, trace: str, out: Path) -> None:
    """Runs one program in this process."""
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    device = Device()
    try:
        found = run(device, kind, name, size, matmul_flops, trace)
    finally:
        device.leave()
    out.write_text(json.dumps(found, default=str), encoding="utf-8")


def run(device: Device, kind: str, name: str, size: Size, matmul_flops: float, trace: str) -> dict[str, Any]:
    others = {"matmul": matmul, "anchors": anchors, "features": features} | dict.fromkeys(STARTS, start)
    if kind == "peer":
        return peer_features(device, size) if name == "features" else peer(device, name, size)
    return others[name](device, size) if name in others else ours(device, name, size, matmul_flops, trace)
