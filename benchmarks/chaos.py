"""Kill commands with SIGKILL at random moments, resume them, and compare the results with those without a kill.

    python benchmarks/chaos.py --json benchmarks/chaos.json --table benchmarks/chaos.md

Makes a small corpus, then prepares, fits, labels and trains the smoke config at toy size once, without a kill. Then
each trial repeats one of these steps in a folder of its own. Its process group is killed once (SIGKILL), at a random
moment of the step, or of training while a checkpoint is being written. The same command runs again. Its result is
compared bit by bit: arrays of the last checkpoint and bytes of metrics.jsonl, or the fingerprint of the store or
anchor. In trials of two processes, one of them is killed, and the other must end by itself.

--variant is one of configs/tiny.py, or `toy`: the objective of tests/training/toy.py, which compiles in a second. `toy`
trains for 60 steps with a checkpoint every 3, and tests the loop alone: no prepare, no fit, one process.

    python benchmarks/chaos.py --damage 500 --json benchmarks/chaos_damage.json --table benchmarks/chaos_damage.md

This flips a bit in, cuts or deletes a file of a run folder, a store, its labels or an anchor, and opens the folder
again (`damaged.py` lists the possible ends of a trial).
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import damaged
import numpy as np
import soundfile
from killing import ROOT, SAVE, STEPS, Step, complete, disturb
from orbax.checkpoint import v1 as ocp
from tqdm import tqdm

from jepa_speech.anchors.load import load_anchor
from jepa_speech.files import write_json, write_text
from jepa_speech.store.store import Store
from jepa_speech.training.checkpoint import by_path

RATE = 16_000
KINDS = {  # trial -> share of all trials
    "training": 0.56,
    SAVE: 0.24,
    "prepare": 0.08,
    "fit": 0.08,
    "one process of two": 0.04,
}


def make(folder: Path, records: int = 16) -> None:
    """WAV files of 0.3 to 1.4 s: notes of 0.1 s."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for i, seconds in enumerate(np.linspace(0.3, 1.4, records)):
        at = np.arange(int(seconds * RATE)) / RATE
        pitch = 120 * 1.5 ** random.integers(6, size=int(at[-1] * 10) + 1)[(at * 10).astype(int)]
        wave = sum(np.sin(2 * np.pi * n * pitch * at) / n for n in range(1, 6)) * 0.1
        soundfile.write(folder / f"{i:03d}.wav", wave + 0.003 * random.normal(size=len(at)), RATE)


def trained(run: Path) -> dict[str, Any]:
    """Returns every array of the newest checkpoint, its step, and metrics.jsonl."""
    with ocp.training.Checkpointer(run / "checkpoints") as manager:
        step = manager.latest.step
        shapes = manager.checkpointables_metadata(step).metadata
        wanted = {part: like(shapes[part]) for part in ("weights", "progress")}
        state = manager.load_checkpointables(step, wanted)
    arrays = {name: np.asarray(leaf) for name, leaf in by_path(state).items()}
    return arrays | {"step": step, "metrics.jsonl": (run / "metrics.jsonl").read_bytes()}


def like(tree: Any) -> Any:
    import jax

    return jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), tree)


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Returns the names of values that differ, compared bit by bit."""

    def same(a: Any, b: Any) -> bool:
        if isinstance(a, np.ndarray):
            return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        return a == b

    return sorted(
        name
        for name in ours.keys() | theirs.keys()
        if ours.keys() ^ theirs.keys() or not same(ours[name], theirs[name])
    )


def steps_of(work: Path, variant: str) -> dict[str, Step]:
    """Returns the steps of the workflow by the names of trials. Undisturbed steps have the folders work/NAME."""
    program = [sys.executable, "-m", "jepa_speech"]
    store, anchor = work / "prepare" / "store", work / "fit" / "gmm.npz"
    keys = {"data.store": store, "anchor.path": anchor, "train.steps": STEPS}
    train = [*program, "train", "--config", f"{ROOT / 'configs' / 'tiny.py'}:{variant}"]
    train += [f"--config.{key}={value}" for key, value in keys.items()]
    fit = [*program, "fit", "gmm", "--store", str(store), "--components", "8", "--iterations", "8"]

    def prepare(folder: Path) -> list[str]:
        return [*program, "prepare", "--input", str(work / "audio"), "--out", str(folder / "store"), "--workers", "1"]

    if variant == "toy":
        toy = [sys.executable, str(ROOT / "tests" / "training" / "toy.py")]
        changes = ["-1", f"steps={STEPS}", "checkpoint_every=3"]
        one = Step(lambda folder: [*toy, str(folder / "run"), *changes], lambda folder: trained(folder / "run"))
        return {"training": one, SAVE: one}
    one = Step(lambda folder: [*train, "--workdir", str(folder / "run")], lambda folder: trained(folder / "run"))
    return {
        "prepare": Step(prepare, lambda folder: {"fingerprint": Store(folder / "store").fingerprint}),
        "fit": Step(
            lambda folder: [*fit, "--out", str(folder / "gmm.npz")],
            lambda folder: {"fingerprint": load_anchor(folder / "gmm.npz").fingerprint},
        ),
        "training": one,
        SAVE: one,
        "one process of two": one._replace(processes=2),
    }


def chaos(trials: dict[str, int], variant: str, seed: int, work: Path) -> dict[str, Any]:
    """Runs all trials. A row of a trial with another result says what differs, or how it failed."""
    random, steps = np.random.default_rng(seed), steps_of(work, variant)
    make(work / "audio")
    known: dict[tuple, tuple[dict[str, Any], float]] = {}
    for name, step in steps.items():
        needed = name in ("prepare", "fit") or trials[name] or (name == "training" and trials[SAVE])
        if not needed or (step.outcome, step.processes) in known:
            continue
        (work / name).mkdir()
        complete(step, work / name)  # fills the compilation cache
        if name == "fit":
            label = ["label", "--store", str(work / "prepare" / "store"), "--anchor", str(work / "fit" / "gmm.npz")]
            subprocess.run([sys.executable, "-m", "jepa_speech", *label, "--top-k", "4"], check=True, cwd=ROOT)
        (work / f"{name} again").mkdir()
        seconds = complete(step, work / f"{name} again")  # the time that a trial takes
        outcome = step.outcome(work / name)
        assert not differences(outcome, step.outcome(work / f"{name} again")), f"{name} is not deterministic"
        known[step.outcome, step.processes] = outcome, seconds
    rows = []
    order = [name for name, count in trials.items() for _ in range(count)]
    random.shuffle(order)
    for number, name in enumerate(tqdm(order, "kills", disable=None)):
        step = steps[name]
        expected, seconds = known[step.outcome, step.processes]
        for attempt in range(5):  # until the kill comes before the end
            folder = work / f"trial-{number}-{attempt}"
            folder.mkdir()
            told = {"trial": number, "kind": name} | disturb(name, step, folder, seconds, random)
            if told["killed"]:
                break
        try:
            told["resumed_in"] = round(complete(step, folder), 2)
            told["differences"] = differences(expected, step.outcome(folder))
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            told["failed"] = str(error)
        told["identical"] = told.get("differences") == []
        rows.append(told)
    times = {name: round(known[steps[name].outcome, steps[name].processes][1], 1) for name in trials if trials[name]}
    return {"variant": variant, "seed": seed, "undisturbed_seconds": times, "trials": rows}


def table(report: dict[str, Any]) -> str:
    """Returns a Markdown table: by kind, how many trials ended like the undisturbed run."""
    lines = ["| trials | number | killed | mid-save | continued | bit-identical |", "|---|---|---|---|---|---|"]
    for kind in KINDS:
        rows = [row for row in report["trials"] if row["kind"] == kind]
        if rows:
            counts = [sum(row[what] for row in rows) for what in ("killed", "in_a_save")]
            counts += [sum("failed" not in row for row in rows), sum(row["identical"] for row in rows)]
            lines.append(f"| {kind} | {len(rows)} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines) + "\n"


def damage_chaos(args: argparse.Namespace) -> int:
    """The mode --damage; returns the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        rows = damaged.trials(args.damage, args.seed, Path(folder), make, differences)
        minutes = round((time.monotonic() - began) / 60, 1)
    written = damaged.table(rows)
    print(written)
    if args.json:
        write_json(args.json, {"seed": args.seed, "minutes": minutes, "cores": os.cpu_count(), "trials": rows})
    if args.table:
        command = "python benchmarks/chaos.py " + " ".join(sys.argv[1:])
        about = f"\n{minutes} minutes on {os.cpu_count()} cores: `{command}`\n"
        write_text(args.table, f"# Damaged files\n\n{written}{about}")
    bad = [row for row in rows if row["end"] in damaged.FAILURES]
    for row in bad:
        print(json.dumps(row), file=sys.stderr)
    return bool(bad)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--kills", type=int, default=50, help="in all; the kinds share them (default: 50)")
    options.add_argument("--damage", type=int, metavar="N", help="damage files instead of killing, N times")
    options.add_argument("--kind", choices=KINDS, help="all of one kind")
    options.add_argument("--variant", default="gmm_jepa", help="of configs/tiny.py, or toy")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--json", metavar="FILE")
    options.add_argument("--table", metavar="FILE")
    args = options.parse_args()
    if args.damage:
        return damage_chaos(args)
    trials = {kind: round(args.kills * share) for kind, share in KINDS.items()}
    if args.variant == "toy":
        trials = dict.fromkeys(KINDS, 0) | {"training": args.kills - args.kills // 3, SAVE: args.kills // 3}
    if args.kind:
        trials = dict.fromkeys(KINDS, 0) | {args.kind: args.kills}
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{folder}/cache")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
        began = time.monotonic()
        report = chaos(trials, args.variant, args.seed, Path(folder) / "work")
    report |= {"minutes": round((time.monotonic() - began) / 60, 1), "cores": os.cpu_count()}
    report["machine"] = platform.machine()
    written = table(report)
    kinds = ", ".join(f"{name} {seconds} s" for name, seconds in report["undisturbed_seconds"].items())
    print(written)
    if args.json:
        write_json(args.json, report)
    if args.table:
        command = "python benchmarks/chaos.py " + " ".join(sys.argv[1:])
        about = f"\n{report['minutes']} minutes on {os.cpu_count()} cores. Time without a kill: {kinds}. `{command}`\n"
        write_text(args.table, f"# Commands killed with SIGKILL and resumed ({args.variant})\n\n{written}{about}")
    bad = [row for row in report["trials"] if not row["identical"]]
    for row in bad:
        print(json.dumps(row), file=sys.stderr)
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
