"""Train steps, anchors, features and starts on one GPU, each beside its usual alternative, in one run of 9 minutes.

    python benchmarks/gpu.py [--only hubert gmm_jepa ...] [--minutes 8.5] [--rows 16] [--lanes 2 3] [--trace DIR]

Needs jax, torch and transformers with CUDA, and no network. Rows whose packages are missing are skipped and named.
Every program runs in a process of its own. --lanes is how many of ours and of the peers' compile at a time; the GPU's
memory must hold them all. While a program is timed, all others are paused. Results so far are always in
benchmarks/gpu.json and gpu.md; rows for which --minutes leave no time are marked. --trace keeps jax's profile of our
steps. --toy: tiny models on the CPU, to check that everything runs.

Steps: forward, backward, AdamW, EMA of the teacher where there is one; bfloat16 arithmetic, float32 parameters; noise
of 15.6 s a row, as the published Base models are trained on; layerdrop 0 on both sides. On
both sides, five steps are dispatched before the host waits, because training does not wait for each step either. The
peers' steps are those of benchmarks/peers/, which say what was done in their favour.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from gpu_programs import OTHERS, STARTS, TOGETHER, TURNS, Size, send_all, work

HERE = Path(__file__).parent


class Row(NamedTuple):
    title: str
    ours: str  # a config, and where a colon stands, what is changed in it
    peer: str  # a module of peers/ and its system; empty: compared with another row of ours
    peer_title: str
    goal: float  # times as many audio-seconds a second


ROWS = {  # those that take longest to compile first
    "gmm_jepa": Row(
        "GMM-anchored JEPA", "gmm_jepa", "released:gmm_jepa_released", "released arithmetic, torch.compile", 3.0
    ),
    "online": Row("GMM-anchored JEPA, posteriors in the step", "gmm_jepa:online", "", "stored posteriors", 0.98),
    "wavlm": Row("WavLM Base", "wavlm", "published:wavlm", "transformers, its own attention, torch.compile", 2.0),
    "dinosr": Row("DinoSR Base", "dinosr", "published:dinosr", "transformers' data2vec, SDPA, torch.compile", 2.0),
    "spidr": Row("DinoSR Base", "dinosr", "spidr_dinosr:dinosr", "PyPI's spidr, SDPA, torch.compile", 2.0),
    "hubert": Row("HuBERT Base", "hubert", "published:hubert", "transformers, SDPA, torch.compile", 2.0),
    "wav2vec2": Row("wav2vec 2.0 Base", "wav2vec2", "published:wav2vec2", "transformers, SDPA, torch.compile", 2.0),
}
CHOICES = [*ROWS, *OTHERS, *STARTS]


def lane(kind: str, names: Iterator[str], given: list[str], end: float, done: Callable[..., None]) -> None:
    """Programs of one kind, one after the other, until the time is up; lanes of a kind share one iterator."""
    cache = tempfile.TemporaryDirectory()  # of what jax compiles, for the two starts
    for name in names:
        left = end - time.monotonic()
        if left < 15:
            done(kind, name, {"skipped": "no time left"})
            continue
        with tempfile.TemporaryDirectory() as folder:
            out, log = Path(folder, "out.json"), Path(folder, "log")
            command = [sys.executable, __file__, "--worker", kind, name, "--out", str(out), *given]
            kept = {"JAX_COMPILATION_CACHE_DIR": cache.name} if name.endswith("start") else {}
            try:
                with log.open("w") as told:
                    how = {"stdout": told, "stderr": told, "env": os.environ | kept, "process_group": 0}
                    subprocess.run(command, timeout=left, check=True, **how)
                done(kind, name, json.loads(out.read_text(encoding="utf-8")))
            except subprocess.TimeoutExpired:
                send_all(signal.SIGCONT)  # programs that were paused for it
                done(kind, name, {"skipped": "no time left"})
            except subprocess.CalledProcessError:
                send_all(signal.SIGCONT)
                lines = [
                    line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()
                ]
                missing = next((line for line in lines if "ModuleNotFoundError" in line), "")
                done(kind, name, {"skipped": missing} if missing else {"failed": lines[-12:]})
    cache.cleanup()


def steps_table(report: dict[str, Any]) -> list[list[str]]:
    """Head and rows of what was asked for and ran; a row whose program failed or had no time is not published."""
    table = [["what", "ours, audio-s/s", "MFU of matmul, of sheet", "peer", "peer, audio-s/s", "ratio", "goal"]]
    hour = Row("features of one hour, HuBERT Base", "features", "features", "transformers, SDPA, torch.compile", 2.0)
    for row in [*ROWS.values(), hour]:
        mine = report["programs"].get(f"ours {row.ours}")
        other = report["programs"].get(f"peer {row.peer}" if row.peer else "ours gmm_jepa")
        if not (timed(mine) and timed(other)):
            continue
        shares = [mine[key] for key in ("mfu_of_matmul", "mfu_of_sheet") if key in mine]
        mfu = ", ".join(f"{share:.1%}" for share in shares)
        table.append([row.title, rate(mine), mfu, row.peer_title, rate(other), ratio(mine, other), f"{row.goal:g}"])
    return table


def markdown(report: dict[str, Any]) -> str:
    head, *rows = steps_table(report)
    programs, lines = report["programs"], [cells(*head), "|---" * len(head) + "|", *(cells(*row) for row in rows)]
    beside = []
    for what, figure in programs.get("ours anchors", {}).get("frames_per_second", {}).items():
        beside.append(
            cells(f"K = 1024, D = 80: {what}", f"{figure:,.0f} frames/s", "goal 1,000,000" if "ours" in what else "")
        )
    for name in STARTS:
        if "seconds" in (found := programs.get(f"ours {name}", {})):
            took = f"{found['seconds']:.1f} s, of which compiling {found['compile_seconds']:.1f} s"
            goal = "goal: warm start in a third of the cold one"
            beside.append(cells(f"{name}, process to first step of HuBERT Base", took, goal))
    if beside:
        lines += ["", "| also measured | | |", "|---|---|---|", *beside]
    machine = report["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items() if number)
    return "\n".join(lines) + (
        f"\n\n{machine['device']}; Python {machine['python']}, {versions}. {report['rows']} rows of "
        f"{report['seconds']:g} s; medians of {TURNS} turns of {TOGETHER} steps, with the slowest and the fastest turn "
        "in brackets. "
        f"`python benchmarks/gpu.py {' '.join(report['options'])}`, {report['minutes']} min.{report.get('note', '')}\n"
    )


def cells(*texts: str) -> str:
    return f"| {' | '.join(texts)} |"


def timed(found: dict[str, Any] | None) -> bool:
    return found is not None and "step_seconds_median" in found


def ratio(mine: dict[str, Any], other: dict[str, Any]) -> str:
    return f"{mine['audio_seconds_per_second'] / other['audio_seconds_per_second']:.2f}"


def rate(found: dict[str, Any]) -> str:
    audio = found["audio_seconds_per_second"] * found["step_seconds_median"]
    low, high = audio / found["step_seconds_max"], audio / found["step_seconds_min"]
    return f"{found['audio_seconds_per_second']:.0f} ({low:.0f} to {high:.0f})"


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def machine(size: Size) -> dict[str, Any]:
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        device = "CPU" if size.toy else subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"benchmarks/gpu.py: no NVIDIA GPU here ({error}); --toy needs none")
    names = ("jax", "flax", "torch", "transformers", "triton")
    return {
        "device": device,
        "python": platform.python_version(),
        "versions": {name: installed(name) for name in names},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CHOICES, default=CHOICES)
    parser.add_argument("--minutes", type=float, default=8.5)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--lanes", type=int, nargs=2, default=(2, 3), metavar=("OURS", "PEERS"))
    parser.add_argument("--seconds", type=float, default=15.6)
    parser.add_argument("--trace", default="", metavar="DIR")
    parser.add_argument("--json", type=Path, default=HERE / "gpu.json", metavar="FILE")
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--matmul", type=float, default=0.0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = Size(options.rows, options.seconds, options.toy)
    if options.worker:
        work(*options.worker, size, options.matmul, options.trace, options.out)
        return

    began = time.monotonic()
    report = {"machine": machine(size), "options": sys.argv[1:]} | size._asdict() | {"programs": {}}
    writing = threading.Lock()

    def done(kind: str, name: str, found: dict[str, Any]) -> None:
        with writing:
            report["programs"][f"{kind} {name}"] = found
            report["minutes"] = round((time.monotonic() - began) / 60, 1)
            report["table"] = steps_table(report)
            options.json.write_text(json.dumps(report, indent=1), encoding="utf-8")
            options.json.with_suffix(".md").write_text(markdown(report), encoding="utf-8")
            told = found.get("failed") or [found.get("skipped") or (rate(found) if timed(found) else found)]
            print(f"{time.monotonic() - began:4.0f} s  {kind} {name}:", *told, sep="\n      ", flush=True)

    rows = [ROWS[name] for name in options.only if name in ROWS]
    given = ["--rows", str(size.rows), "--seconds", str(size.seconds)] + ["--toy"] * size.toy
    given += ["--trace", options.trace] if options.trace else []
    compared = [name for row in rows for name in ([row.ours] if row.peer else [row.ours, "gmm_jepa"])]
    ours = list(dict.fromkeys(compared)) + [name for name in OTHERS if name in options.only]
    peers = [row.peer for row in rows if row.peer] + ["features"] * ("features" in options.only)
    starts = [name for name in STARTS if name in options.only]
    end = began + 60 * options.minutes
    with tempfile.TemporaryDirectory() as locks:
        os.environ.setdefault("JEPA_SPEECH_BENCH_LOCK", str(Path(locks, "lock")))
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several programs share the GPU
        lane("ours", iter(["matmul"] * bool(rows)), given, end, done)
        given += ["--matmul", str(report["programs"].get("ours matmul", {}).get("flops_per_second", 0))]
        shared = [("ours", iter(ours))] * options.lanes[0] + [("peer", iter(peers))] * options.lanes[1]
        threads = [threading.Thread(target=lane, args=(*names, given, end, done), daemon=True) for names in shared]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            lane("ours", iter(starts), given, end, done)  # last: nothing compiles beside them
        finally:
            send_all(signal.SIGKILL)  # none is left but after an interruption
    print("\n" + markdown(report))
    missing = [name for name, found in report["programs"].items() if "failed" in found or "skipped" in found]
    if missing:
        sys.exit(f"benchmarks/gpu.py: not measured, so the table lacks their rows: {', '.join(missing)}")


if __name__ == "__main__":
    main()
