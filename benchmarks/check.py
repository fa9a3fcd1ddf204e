"""Compare the speed of two commits by ratios in one run: A B A B ..., each turn in a new process on the same cores.

    make bench-check                     HEAD against the commit where its branch left main (on main: the previous one)
    make bench-check BASE=v0.1.0         HEAD against any other commit
    python benchmarks/check.py --base COMMIT [--head COMMIT] [--turns 8]

Both commits are checked out into temporary git worktrees and measured with this interpreter, each by its own
check_measures.py, so that modules may have other names at base. What a measure computes must not change under its name.
A ratio is head's time over base's in the same turn. For each measure, the command prints the
median ratio and the interval from the second smallest to the second largest. For 8 turns, that interval holds the true
median with 93% for any noise. The exit code is 1 if the whole interval of a measure is above 1.10, or if head cannot be
measured. Changes that are not committed are not measured.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
LIMIT = 1.10  # times as slow
FEWEST = 4  # turns, for an interval between the second smallest and the second largest


class Verdict(NamedTuple):
    """ratio: head's time over base's. slower: whether the rule above fails it."""

    measure: str
    base_s: float
    head_s: float
    ratio: float
    low: float
    high: float
    slower: bool


def judge(measure: str, base: Sequence[float], head: Sequence[float]) -> Verdict:
    """Returns the verdict from the seconds of both in each turn, (turns,)."""
    ratios = sorted(h / b for b, h in zip(base, head, strict=True))
    if len(ratios) < FEWEST:
        raise SystemExit(f"{len(ratios)} turns: at least {FEWEST} are needed to tell a difference from noise")
    low, high = ratios[1], ratios[-2]
    medians = statistics.median(base), statistics.median(head)
    return Verdict(measure, *medians, statistics.median(ratios), low, high, low > LIMIT)


def judged(turns: Sequence[dict[str, dict[str, Any]]]) -> tuple[list[Verdict], list[str], list[str]]:
    """From what each turn found, {"base" and "head": {measure: seconds, or why there are none}}.

    Verdicts, measures that only base lacks, and those that head lacks.
    """
    verdicts, new, broken = [], [], []
    for measure in turns[0]["head"]:
        found = {side: [turn[side][measure] for turn in turns] for side in ("base", "head")}
        lacking = {side: next((x for x in values if isinstance(x, str)), "") for side, values in found.items()}
        if lacking["head"]:
            broken.append(f"{measure}: {lacking['head']}")
        elif lacking["base"]:
            new.append(f"{measure}: {lacking['base']}")
        else:
            verdicts.append(judge(measure, found["base"], found["head"]))
    return verdicts, new, broken


def table(verdicts: Sequence[Verdict]) -> str:
    lines = ["| measure | base | head | head / base [interval] | |", "|---|---|---|---|---|"]
    for v in verdicts:
        told = "SLOWER" if v.slower else "faster" if v.high < 1 / LIMIT else ""
        ratio = f"{v.ratio:.2f} [{v.low:.2f}, {v.high:.2f}]"
        lines.append(f"| {v.measure} | {v.base_s:.3g} s | {v.head_s:.3g} s | {ratio} | {told} |")
    return "\n".join(lines)


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=HERE, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def default_base(head: str) -> str:
    """Returns the commit where `head` left main; on main itself, the previous commit."""
    names = git("for-each-ref", "--format=%(refname:short)", "refs/heads/main", "refs/remotes/origin/main").split()
    if not names:
        raise SystemExit("there is no branch main to compare with: name a commit with BASE= or --base")
    base = git("merge-base", head, names[0])
    return git("rev-parse", f"{head}~1") if base == head else base


@contextmanager
def checked_out(commits: dict[str, str], work: Path) -> Iterator[dict[str, Path]]:
    """Yields a temporary worktree of each commit."""
    trees = {side: work / side for side in commits}
    try:
        for side, commit in commits.items():
            git("worktree", "add", "--detach", str(trees[side]), commit)
        yield trees
    finally:
        for tree in trees.values():
            if tree.exists():
                git("worktree", "remove", "--force", str(tree))


def measure(tree: Path, cache: Path) -> dict[str, Any]:
    """Returns seconds by measure, from a new process with the jepa_speech of `tree`; `cache`: compiled programs."""
    with tempfile.TemporaryDirectory() as work:
        environment = os.environ | {
            "PYTHONPATH": str(tree),
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        command = [sys.executable, str(tree / "benchmarks" / "check_measures.py"), str(tree), work]
        subprocess.run(command, cwd=tree, env=environment, check=True)
        return json.loads(Path(work, "seconds.json").read_text(encoding="utf-8"))


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--base", metavar="COMMIT", help="default: see above")
    options.add_argument("--head", metavar="COMMIT", default="HEAD")
    options.add_argument("--turns", type=int, default=8, help="at least 4; one more comes first and is not counted")
    options.add_argument("--json", type=Path, metavar="FILE", help="also write what every turn found to FILE")
    args = options.parse_args()
    head = git("rev-parse", "--verify", f"{args.head}^{{commit}}")
    base = git("rev-parse", "--verify", f"{args.base}^{{commit}}") if args.base else default_base(head)
    print(f"base {base[:12]}, head {head[:12]}", flush=True)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    turns = []
    with tempfile.TemporaryDirectory() as work, checked_out({"base": base, "head": head}, Path(work)) as trees:
        for number in range(args.turns + 1):
            turns.append({side: measure(tree, Path(work, f"cache-{side}")) for side, tree in trees.items()})
            print(f"turn {number} of {args.turns}" + (", to compile" if number == 0 else ""), flush=True)
    verdicts, new, broken = judged(turns[1:])
    if args.json:
        args.json.write_text(json.dumps({"base": base, "head": head, "turns": turns[1:]}, indent=2), encoding="utf-8")
    print("\n" + table(verdicts))
    for line in new:
        print(f"not at base, so not compared: {line}")
    for line in broken:
        print(f"fails at head: {line}")
    slower = [verdict.measure for verdict in verdicts if verdict.slower]
    if slower:
        print(f"slower by more than {LIMIT - 1:.0%}, beyond the noise of this run: {', '.join(slower)}")
    return int(bool(slower or broken or not verdicts))


if __name__ == "__main__":
    sys.exit(main())
