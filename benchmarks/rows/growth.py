"""Step time and memory by frames, rows and size of the corpus, beside the growth that the operations predict."""

import os
import statistics
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rows import made
from rows.race import Row, alternate, seconds
from store import PER_SHARD, many_shards

from jepa_speech.batches.batch_plan import Plan
from jepa_speech.batches.pipeline import batches
from jepa_speech.memory import anonymous
from jepa_speech.store.store import Store

PEERS = ()


class Grid(NamedTuple):
    """seconds: lengths of crops, of `rows` rows; row_counts: numbers of rows of the shortest; shards of 125 records."""

    seconds: tuple[float, ...] = (2.0, 4.0, 8.0, 16.0)
    rows: int = 4
    row_counts: tuple[int, ...] = (2, 4, 8, 16)
    shards: tuple[int, ...] = (8, 80, 800)
    turns: int = 5
    batches: int = 40  # in a turn


QUICK = Grid((0.5, 1.0), 2, (1, 2), (1, 2), 2, 3)


def steps(grid: Grid, config: str) -> tuple[list[dict[str, Any]], dict[str, list[float]]]:
    """Facts of each shape, and the seconds of a step of each in each turn."""
    chosen = made.config_of(config, components=64)
    mixture = made.anchor(64)
    shapes = [("frames", grid.rows, s) for s in grid.seconds]
    shapes += [("rows", n, grid.seconds[0]) for n in grid.row_counts if n != grid.rows]
    facts, runs = [], {}
    for kind, rows_at_once, length in shapes:
        stepper = made.Stepper(chosen, made.batch(chosen, rows_at_once, length, mixture), mixture)
        cost, name = stepper.cost, f"{rows_at_once} x {length:g} s"
        sizes = {"flops": cost.flops, "temporaries": cost.temporaries, "arguments": cost.arguments, "peak": cost.peak}
        facts.append({"kind": kind, "name": name, "rows": rows_at_once, "seconds": length} | sizes)
        runs[name] = partial(stepper.run, max(1, round(32 / (rows_at_once * length))))
    times = alternate(runs, grid.turns)
    for fact in facts:
        count = max(1, round(32 / (fact["rows"] * fact["seconds"])))
        times[fact["name"]] = [t / count for t in times[fact["name"]]]
    return facts, times


def fit(flops: np.ndarray, time: np.ndarray) -> dict[str, float]:
    """time ≈ fixed + flops / rate, by least squares of relative errors; worst: the largest of those."""
    columns = np.stack([np.ones_like(flops), flops], 1) / time[:, None]
    (fixed, slope), *_ = np.linalg.lstsq(columns, np.ones_like(time), rcond=None)
    worst = np.abs((fixed + slope * flops) / time - 1).max()
    return {"fixed_s": float(fixed), "flops_per_s": float(1 / slope), "worst_relative_error": float(worst)}


def corpora(grid: Grid, work: Path) -> list[dict[str, Any]]:
    """What a batch costs and the loader holds, of stores that differ in their number of records alone."""
    facts, runs = [], {}
    with ExitStack() as stack:
        for shards in grid.shards:
            store: Store = many_shards(work / f"store{shards}", shards)
            before = anonymous(os.getpid())
            plan = Plan(store.samples, (0.025,), 2.5, seed=0)  # 100 records of 400 samples in a batch
            stream = stack.enter_context(closing(batches(store, plan, frozenset({"mix"}), 0, 2**40)))
            first = seconds(partial(next, stream))
            facts.append({"records": shards * PER_SHARD, "first_s": first, "shards": shards})
            runs[shards] = partial(take, stream, grid.batches)
            runs[shards]()
            facts[-1]["held_mb"] = (anonymous(os.getpid()) - before) / 1e6
        times = alternate(runs, grid.turns)
    return [fact | {"batch_s": [t / grid.batches for t in times[fact["shards"]]]} for fact in facts]


def take(stream: Iterator[Any], count: int) -> None:
    for _ in range(count):
        next(stream)


def plot(found: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    line, by_name = found["fit"], {fact["name"]: fact for fact in found["shapes"]}
    size = {name: fact["rows"] * fact["seconds"] for name, fact in by_name.items()}
    for panel, kind, mark in ((axes[0], "frames", "o"), (axes[0], "rows", "s")):
        names = [name for name, fact in by_name.items() if fact["kind"] == kind]
        flops = np.array([by_name[name]["flops"] for name in names])
        panel.plot(flops / 1e9, [statistics.median(found["step_s"][n]) for n in names], mark, label=f"{kind} grow")
        axes[1].plot([size[n] for n in names], [by_name[n]["peak"] / 1e6 for n in names], mark, label=f"{kind} grow")
    every = np.array(sorted(fact["flops"] for fact in by_name.values()))
    label = f"{line['fixed_s']:.3f} s + {line['flops_per_s'] / 1e9:.0f} GFLOP/s"
    axes[0].plot(every / 1e9, line["fixed_s"] + every / line["flops_per_s"], "-", color="grey", label=label)
    axes[0].set(xlabel="GFLOP of matrix products in a step", ylabel="seconds a step", xscale="log", yscale="log")
    axes[1].set(xlabel="seconds of audio in a batch", ylabel="MB, of the compiled step", xscale="log", yscale="log")
    records = [fact["records"] for fact in found["corpora"]]
    batch_ms = [1e3 * statistics.median(fact["batch_s"]) for fact in found["corpora"]]
    axes[2].plot(records, batch_ms, "o-", label="ms for a batch of 100 records")
    axes[2].plot(records, [fact["held_mb"] for fact in found["corpora"]], "s-", label="MB that the loader holds")
    axes[2].set(xlabel="records in the corpus", xscale="log", ylim=(0, None))
    for axis in (axes[0].xaxis, axes[0].yaxis, axes[1].xaxis, axes[1].yaxis):  # else labels of minor ticks overlap
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    for panel in axes:
        panel.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def grown(facts: list[dict[str, Any]], times: dict[str, list[float]], what: str) -> list[Row]:
    """From the smallest of these shapes to the largest: time against products, memory against audio."""
    small, large = facts[0], facts[-1]
    measured = [b / a for a, b in zip(times[small["name"]], times[large["name"]], strict=True)]
    work, audio = (large["flops"] / small["flops"], large["rows"] * large["seconds"] / small["rows"] / small["seconds"])
    span, memory = f"{small['name']} to {large['name']}", large["temporaries"] / small["temporaries"]
    return [
        Row(f"step time, {what}, {span}", "its matrix products", measured, [work] * len(measured), "", "growth"),
        Row(f"step memory, {what}, {span}", "seconds of audio", [memory], [audio], "", "growth"),
    ]


def rows(quick: bool, work: Path, data: Path | None) -> list[Row]:
    grid, config = (QUICK, "tiny.py:hubert") if quick else (Grid(), "smoke.py")
    facts, times = steps(grid, config)
    medians = np.array([statistics.median(times[fact["name"]]) for fact in facts])
    found = {"shapes": facts, "step_s": times, "fit": fit(np.array([f["flops"] for f in facts], float), medians)}
    found["corpora"] = corpora(grid, work)
    plot(found, work / "cpu_growth.png")
    of_frames = [fact for fact in facts if fact["kind"] == "frames"]
    of_rows = sorted((f for f in facts if f["seconds"] == grid.seconds[0]), key=lambda f: f["rows"])
    line, small, large = found["fit"], found["corpora"][0], found["corpora"][-1]
    note = (
        f"over all {len(facts)} shapes, a step takes {line['fixed_s']:.3f} s + products / "
        f"{line['flops_per_s'] / 1e9:.0f} GFLOP/s, within {line['worst_relative_error']:.0%}"
    )
    table = grown(of_frames, times, f"configs/{config}, longer crops") + grown(of_rows, times, "more rows")
    table[0] = Row(**vars(table[0]) | {"note": note})
    table.append(
        Row(
            f"a batch of 100 records from a corpus of {large['records']:,}",
            f"of {small['records']:,}",
            [1e3 * s for s in large["batch_s"]],
            [1e3 * s for s in small["batch_s"]],
            "ms",
            "growth",
            note=f"the loader holds {small['held_mb']:.1f} MB for the small corpus and {large['held_mb']:.1f} MB for "
            "the large one; no part of a step depends on the corpus",
        )
    )
    return table
