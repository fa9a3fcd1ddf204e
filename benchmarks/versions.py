"""Run `make test` on several versions of Python, and write a table of versions and results.

    python benchmarks/versions.py python3.11 python3.12 python3.13

Each Python gets its own virtual environment below --work, which the next run uses again. A row is written as soon as
its run ends, and replaces that Python's older row. The exit code is 1 if any run failed.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from jepa_speech.files import read_json, write_json

ROOT = Path(__file__).parents[1]
REPORT = ROOT / "benchmarks" / "versions.json"
PACKAGES = ("jax", "flax", "orbax-checkpoint", "grain", "numpy", "librosa")
HEAD = ["Python", *PACKAGES, "extras", "passed", "failed", "skipped", "minutes", "commit", "day"]
# Run by the environment that was tested: this process may be another Python.
ASK = f"""
import importlib.metadata, json, platform
print(json.dumps([platform.python_version(), *map(importlib.metadata.version, {PACKAGES})]))
"""


def tested(python: str, extras: str, work: Path) -> tuple[list[str], bool]:
    """Runs `make test`. Returns its row of the table, and whether it passed."""
    environment = work / Path(python).name
    results = work / f"{Path(python).name}.xml"
    results.unlink(missing_ok=True)
    variables = {"PYTHON": python, "VENV": str(environment), "EXTRAS": extras, "PYTEST": f"--junitxml={results}"}
    began = time.monotonic()
    run = subprocess.run(["make", "test", *(f"{name}={value}" for name, value in variables.items())], cwd=ROOT)
    minutes = (time.monotonic() - began) / 60
    versions = json.loads(subprocess.check_output([environment / "bin" / "python", "-c", ASK], text=True))
    counts = counted(results) if results.exists() else {}
    row = [*versions, extras, *(str(counts.get(name, "none")) for name in ("passed", "failed", "skipped"))]
    commit = subprocess.check_output(["git", "describe", "--always", "--dirty"], cwd=ROOT, text=True).strip()
    return [*row, f"{minutes:.0f}", commit, f"{datetime.date.today()}"], run.returncode == 0 and bool(counts)


def counted(results: Path) -> dict[str, int]:
    """How many tests passed, failed and were skipped, by pytest's JUnit file."""
    suites = list(ElementTree.parse(results).getroot().iter("testsuite"))

    def total(name: str) -> int:
        return sum(int(suite.get(name, 0)) for suite in suites)

    failed, skipped = total("failures") + total("errors"), total("skipped")
    return {"passed": total("tests") - failed - skipped, "failed": failed, "skipped": skipped}


def merged(table: list[list[str]], row: list[str]) -> list[list[str]]:
    """The table with a new row in place of the one of the same minor version of Python; oldest Python first."""

    def minor(version: str) -> tuple[int, ...]:
        return tuple(int(part) for part in version.split(".")[:2])

    rows = [old for old in table[1:] if minor(old[0]) != minor(row[0])] + [row]
    return [HEAD, *sorted(rows, key=lambda one: minor(one[0]))]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("pythons", nargs="+", metavar="PYTHON")
    options.add_argument("--extras", default="test", help="of setup.py (default: test)")
    options.add_argument("--work", type=Path, default=ROOT / "runs" / "versions")
    args = options.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    passed = True
    for python in args.pythons:
        row, good = tested(python, args.extras, args.work.absolute())
        passed &= good
        table = read_json(REPORT)["table"] if REPORT.exists() else [HEAD]
        write_json(REPORT, {"table": merged(table, row), "cores": os.cpu_count()})
        print(" | ".join(row), flush=True)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
