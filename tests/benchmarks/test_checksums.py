"""benchmarks/checksums.py in small."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "checksums.py"


def test_a_small_checkpoint(tmp_path):
    command = [sys.executable, SCRIPT, "--gigabytes", "0.001", "--folder", tmp_path]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert [line.partition(":")[0] for line in said.splitlines()] == [
        "save, clock     ",
        "save, processors",
        "load, clock     ",
        "load, processors",
    ]
    assert not list(tmp_path.iterdir())
