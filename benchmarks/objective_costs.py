"""What a train step of each objective costs per second of audio, beside HuBERT's, in processor time of one core.

    python benchmarks/objective_costs.py [--only s_jepa smoke:best_rq] [--turns 5]
    python benchmarks/objective_costs.py --quick --out DIR      toy sizes: checks that it works, not how fast

Each config is compared with `hubert`, those of `smoke` with `smoke:hubert`: a step of one, a step of the other, and so
on, on the same number of crops of the same length, without padding, in float32. Forward, backward and update, and the
teacher if there is one. Pairs of steps are compared, so that a varying load affects both. Everything runs on one core:
XLA's threads, which wait for each other when other programs run, then cost nothing. Results so far are written after
each config: objective_costs.json and objective_costs.md, here or in DIR. Linux only.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent


class Size(NamedTuple):
    """Configs of one encoder's size, and the batch on which they are compared."""

    peer: str
    configs: tuple[str, ...]
    rows: int
    seconds: float


SMALL = (
    "gmm_jepa",
    "sigreg_jepa",
    "s_jepa",
    "data2vec2",
    "best_rq",
    "gmm_jepa_sigreg",
    "wavlm",
    "wav2vec2",
    "data2vec",
)
SIZES = (
    Size("smoke:hubert", tuple(f"smoke:{name}" for name in (*SMALL, "dinosr")), 4, 4.0),
    Size("hubert", ("gmm_jepa", "sigreg_jepa", "s_jepa"), 1, 5.0),
)
TOYS = (Size("tiny:hubert", ("tiny:best_rq",), 2, 0.5),)
HEAD = (
    *("config", "parameters, M", "ms per s of audio", "HuBERT in the same pairs, ms", "times HuBERT"),
    *("GFLOP per s of audio", "times HuBERT's GFLOP"),
)


class Step(NamedTuple):
    """A compiled step. run: takes one; flops: of its matrix products."""

    run: Callable[[], None]
    flops: int
    parameters: int


def compiled(name: str, rows: int, seconds: float) -> Step:
    import jax

    from jepa_speech.costs.speed import crop_samples, make_setting
    from jepa_speech.costs.synthetic import noise_batch
    from jepa_speech.training.configfile import load_config
    from jepa_speech.training.sharding import place_batch
    from jepa_speech.training.state import count_params, init_state

    setting = make_setting(load_config(name, ["encoder.dtype=float32"]))
    samples = crop_samples(setting, seconds)
    step, cost = setting.compile(rows, samples)
    state = init_state(setting.objective, setting.optimizer, setting.config.seed, setting.state)
    batch = place_batch(setting.mesh, noise_batch(setting.config, setting.objective, rows, samples))
    held = [state]

    def run() -> None:
        held[0], metrics = step(held[0], batch)
        jax.block_until_ready((held[0], metrics))

    return Step(run, cost.model_flops, count_params(state.params))


def spent(run: Callable[[], None]) -> float:
    """Returns the processor seconds of a call, of all threads of this process."""
    began = time.process_time()
    run()
    return time.process_time() - began


def in_turn(ours: Step, peer: Step, turns: int) -> tuple[list[float], list[float]]:
    """Returns the processor seconds of each step of both, alternating, after one of each that is not counted."""
    pairs = [(spent(ours.run), spent(peer.run)) for _ in range(turns + 1)][1:]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def cells(name: str, step: Step, peer: Step, times: tuple[list[float], list[float]], audio: float) -> list[str]:
    import numpy as np

    ours, theirs = map(np.array, times)
    ratio = ours / theirs
    shown = [f"{ms:,.0f}" if ms >= 100 else f"{ms:.3g}" for ms in 1000 * np.median([ours, theirs], axis=1) / audio]
    measured = "1" if step is peer else f"{np.median(ratio):.2f} [{ratio.min():.2f}, {ratio.max():.2f}]"
    counted = f"{step.flops / peer.flops:.2f}" if step is not peer else "1"
    work = f"{step.flops / audio / 1e9:.3g}"
    return [name, f"{step.parameters / 1e6:.3g}", *shown, measured, work, counted]


def measured(size: Size, only: list[str], turns: int, done: Callable[..., None]) -> None:
    import jax

    peer, audio = compiled(size.peer, size.rows, size.seconds), size.rows * size.seconds
    first = True
    for name in size.configs:
        if only and name not in only:
            continue
        step = compiled(name, size.rows, size.seconds)
        times = in_turn(step, peer, turns)
        if first:
            done(cells(size.peer, peer, peer, (times[1], times[1]), audio), size.peer, [])
            first = False
        done(cells(name, step, peer, times, audio), name, list(zip(*times, strict=True)))
        del step
        jax.clear_caches()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [name for size in (*SIZES, *TOYS) for name in size.configs]
    parser.add_argument("--only", nargs="*", choices=known, default=[], help="only these configs; needs --out")
    parser.add_argument("--turns", type=int, default=5, help="pairs of steps for each config")
    parser.add_argument("--quick", action="store_true", help="toy sizes, in seconds; needs --out")
    parser.add_argument("--out", type=Path, help="where to write (default: benchmarks/)")
    args = parser.parse_args()
    if (args.quick or args.only) and not args.out:
        parser.error("--quick and --only give no whole table: say with --out where to write")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])  # before jax makes its threads
    os.environ["JAX_PLATFORMS"] = "cpu"

    from cpu import processor

    from jepa_speech.files import write_json, write_text

    out = args.out or HERE
    out.mkdir(parents=True, exist_ok=True)
    table, seconds = [list(HEAD)], {}
    machine = {"machine": processor(), "python": platform.python_version(), "jax": version("jax")}
    began = time.monotonic()

    def done(row: list[str], name: str, times: list[tuple[float, float]]) -> None:
        print(" | ".join(row), flush=True)
        table.append(row)
        if times:
            seconds[name] = times
        minutes = round((time.monotonic() - began) / 60, 1)
        report = {"table": table, "processor_seconds": seconds, "turns": args.turns, "minutes": minutes, **machine}
        write_json(out / "objective_costs.json", report)
        write_text(out / "objective_costs.md", page(table, report))

    for size in TOYS if args.quick else SIZES:
        if not args.only or set(args.only) & set(size.configs):
            measured(size, args.only, args.turns, done)


def page(table: list[list[str]], report: dict[str, Any]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in table]
    lines.insert(1, "|" + "---|" * len(HEAD))
    batches = "; ".join(f"{size.rows} x {size.seconds:g} s beside {size.peer}" for size in SIZES)
    return "\n".join(lines) + (
        f"\n\nProcessor time of a train step on one core ({report['machine']}), float32; medians and ranges of "
        f"{report['turns']} pairs of steps ({batches}); {report['minutes']:g} minutes; Python {report['python']}, jax "
        f"{report['jax']}. GFLOP are those of matrix products and convolutions, counted from shapes.\n"
    )


if __name__ == "__main__":
    main()
