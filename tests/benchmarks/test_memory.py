"""benchmarks/memory.py counts what a command and its children hold."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "memory.py"
HOLD = "import subprocess, sys, time; x = b'x' * 100_000_000; "
PARENT = HOLD + f"subprocess.run([sys.executable, '-c', {HOLD + 'time.sleep(1)'!r}], check=True)"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PSS is read from /proc")
def test_parent_and_child_are_added_and_the_limit_fails(tmp_path):
    report = tmp_path / "memory.json"
    command = [sys.executable, SCRIPT, "--every", "0.05", "--json", report]
    done = subprocess.run([*command, "--limit-gb", "0.1", "--", sys.executable, "-c", PARENT], check=False)
    figures = json.loads(report.read_text())
    assert 0.2 < figures["peak_pss_gb"] < 0.3
    assert figures["exit_code"] == 0 and done.returncode == 1
    assert subprocess.run([*command, "--", "false"], check=False).returncode == 1
