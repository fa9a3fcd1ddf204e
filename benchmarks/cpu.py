"""The CPU table: every row a ratio measured in one run against a named peer, on two cores, in 10 minutes.

    make bench                      (or, where the extra `parity` is installed: python benchmarks/cpu.py)
    python benchmarks/cpu.py --only mixture step --out DIR
    make bench-long                 the rows that take minutes each, in benchmarks/long/
    python benchmarks/cpu.py --quick --out DIR      toy sizes: checks that it works, not how fast

Each file of benchmarks/rows/ is measured in a process of its own, on the same cores. After each, the results so far are
written: cpu.json, cpu.md and the plot cpu_growth.png, here or in DIR. Programs take turns (A B A B ...), so that a
varying load affects both. A row shows the median and the range of the turns' ratios. Load may still affect the two
differently, so the share of the cores that other programs took is below the table. A file whose peer is not installed
is left out and named. --data: recordings to load instead of synthetic ones. Linux only.
"""

import argparse
import importlib
import importlib.util
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rows.others import Others, verdict

HERE = Path(__file__).parent
NAMES = ("mixture", "loading", "cold_start", "anchor_share", "extraction", "growth", "step")
LONG = ("embedding",)  # only if --only names it
PEERS = {"scikit-learn": "sklearn", "torch": "torch", "transformers": "transformers", "soundfile": "soundfile"}
OWN = ("jax", "jaxlib", "flax", "grain", "numpy")
HEAD = ("what", "this program", "peer, same work", "ratio: median [range] of turns", "goal")
PLOT = "cpu_growth.png"


def measure(name: str, quick: bool, data: Path | None, work: Path) -> dict[str, Any]:
    """The rows of one file of benchmarks/rows/, in this process."""
    rows = importlib.import_module(f"rows.{name}")
    began = time.monotonic()
    found = rows.rows(quick, work, data)
    return {
        "rows": [row.report() for row in found],
        "table": [row.cells() for row in found],
        "minutes": (time.monotonic() - began) / 60,
    }


def missing(name: str) -> list[str]:
    """The packages that this file's peers need and that are not here; read from its text, as importing it may fail."""
    text = (HERE / "rows" / f"{name}.py").read_text(encoding="utf-8")
    peers = next(line for line in text.splitlines() if line.startswith("PEERS = "))
    return [package for package, module in PEERS.items() if f'"{package}"' in peers and not found(module)]


def found(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def gathered(parts: dict[str, dict[str, Any]], left_out: dict[str, list[str]], cores: int, quick: bool) -> dict:
    """The report: docs/performance.md quotes `table`."""
    table = [HEAD, *(row for part in parts.values() for row in part["table"])]
    return {
        "table": [list(row) for row in table],
        "rows": {name: part["rows"] for name, part in parts.items()},
        "minutes": {name: round(part["minutes"], 2) for name, part in parts.items()},
        "others": {name: round(part["others"], 4) for name, part in parts.items()},
        "left_out": left_out,
        "quick": quick,
        "cores": cores,
        "machine": processor(),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in (*OWN, *(p for p, m in PEERS.items() if found(m)))},
    }


def processor() -> str:
    """The name that Linux has for it."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def page(report: dict[str, Any]) -> str:
    """Return the table in Markdown, the notes on its rows, and the machine and versions."""
    lines = ["| " + " | ".join(row) + " |" for row in report["table"]]
    lines.insert(1, "|" + "---|" * len(HEAD))
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    lines += [
        "",
        "A ratio is how many times as fast this program is. A percentage is the share of the time that the peer does "
        "not need. For growth, the ratio is measured growth over predicted growth. Programs take turns (A B A B) in "
        f"one run, on the same {report['cores']} cores ({report['machine']}), {sum(report['minutes'].values()):.0f} "
        f"minutes; {verdict(report['others'])}; Python {report['python']}, {versions}.",
        "",
    ]
    if report["quick"]:
        lines.insert(0, "Toy sizes, to check that everything runs. No figure here says how fast anything is.\n")
    notes = [row for rows in report["rows"].values() for row in rows if row["note"]]
    lines += [f"- {row['what']}: {row['note']}." for row in notes]
    for name, packages in report["left_out"].items():
        lines.append(f"- {name}: not measured, because these packages are missing: {', '.join(packages)}.")
    return "\n".join(lines) + "\n"


def run_all(args: argparse.Namespace) -> None:
    from jepa_speech.files import read_json, write_json, write_text

    cores, parts, left_out = sorted(os.sched_getaffinity(0))[: args.cores], {}, {}
    os.sched_setaffinity(0, cores)
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": str(len(cores))}
    if args.quick:  # compiling is what would take time
        environment["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
    for name in args.only or NAMES:
        if packages := missing(name):
            print(f"{name}: left out, for want of {', '.join(packages)}: pip install --editable '.[test,parity]'")
            left_out[name] = packages
            continue
        print(f"{name} ...", flush=True)
        with tempfile.TemporaryDirectory() as work:
            into = Path(work, "part.json")
            command = [sys.executable, __file__, "--one", name, "--out", work]
            command += ["--quick"] * args.quick + (["--data", str(args.data.absolute())] if args.data else [])
            others = Others(cores)
            subprocess.run(command, check=True, env=environment)
            parts[name] = read_json(into) | {"others": others.share()}
            if Path(work, PLOT).exists():
                (args.out / PLOT).write_bytes(Path(work, PLOT).read_bytes())
        report = gathered(parts, left_out, len(cores), args.quick)
        write_json(args.out / "cpu.json", report)
        write_text(args.out / "cpu.md", page(report))
        for row in parts[name]["table"]:
            print("  " + " | ".join(row), flush=True)
    print("\n" + (args.out / "cpu.md").read_text(encoding="utf-8"))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="toy sizes, in seconds")
    options.add_argument(
        "--only", nargs="*", choices=NAMES + LONG, help="these files of benchmarks/rows/ alone; needs --out"
    )
    options.add_argument("--data", type=Path, metavar="DIR", help="recordings for the loader")
    options.add_argument("--cores", type=int, default=2)
    options.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: benchmarks/)")
    options.add_argument("--one", choices=NAMES + LONG, help=argparse.SUPPRESS)  # in this process, into DIR/part.json
    args = options.parse_args()
    if (args.quick or args.only) and not args.out:
        options.error("--quick and --only give no whole table of real figures: say with --out where they may go")
    args.out = args.out or HERE
    args.out.mkdir(parents=True, exist_ok=True)
    if args.one:
        from jepa_speech.files import write_json

        write_json(args.out / "part.json", measure(args.one, args.quick, args.data, args.out))
    else:
        run_all(args)


if __name__ == "__main__":
    main()
