"""Peak memory of a command and all its children, as proportional set size (shared pages counted once).

    python benchmarks/memory.py [--limit-gb 3] [--json FILE] -- jepa-speech prepare --input DIR --out STORE

Linux only, by sampling /proc (with psutil, of the extra [test]). The exit code is the command's; 1 if it ended well
but went over the limit.
"""

import argparse
import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil


def tree_pss(process: psutil.Process) -> int:
    """Proportional set size of a process and its descendants, in bytes; those that just ended count as 0."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        for member in (process, *process.children(recursive=True)):
            with suppress(OSError):
                rollup = Path(f"/proc/{member.pid}/smaps_rollup").read_text(encoding="ascii")
                total += 1024 * sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total


def watch(command: list[str], every_s: float) -> dict[str, float]:
    """Runs the command; its exit code, wall time in seconds and peak in GB (1e9 bytes)."""
    began, peak = time.monotonic(), 0
    with subprocess.Popen(command) as child:
        process = psutil.Process(child.pid)
        while child.poll() is None:
            peak = max(peak, tree_pss(process))
            time.sleep(every_s)
    return {"exit_code": child.returncode, "seconds": time.monotonic() - began, "peak_pss_gb": peak / 1e9}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--limit-gb", type=float, help="fail if the peak is above this")
    options.add_argument("--every", type=float, default=0.5, metavar="S", help="seconds between samples")
    options.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    options.add_argument("command", nargs="+", metavar="COMMAND", help="after `--`")
    args = options.parse_args()
    figures = watch(args.command, args.every)
    print(f"peak {figures['peak_pss_gb']:.2f} GB (PSS of the process tree), {figures['seconds']:.0f} s")
    if args.json:
        Path(args.json).write_text(json.dumps(figures) + "\n", encoding="utf-8")
    over = args.limit_gb is not None and figures["peak_pss_gb"] > args.limit_gb
    if over:
        print(f"that is over the limit of {args.limit_gb} GB", file=sys.stderr)
    return int(figures["exit_code"] or over)


if __name__ == "__main__":
    sys.exit(main())
