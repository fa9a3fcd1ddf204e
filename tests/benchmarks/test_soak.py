"""benchmarks/soak.py in small, and its arithmetic."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "soak.py"


@pytest.fixture(scope="module")
def soak():
    spec = importlib.util.spec_from_file_location("soak", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_a_thousand_records(tmp_path):
    report, picture = tmp_path / "soak.json", tmp_path / "soak.png"
    size = ["--records", "1000", "--seconds", "3", "--workers", "1"]
    subprocess.run([sys.executable, SCRIPT, *size, "--json", report, "--plot", picture], check=True)
    found = json.loads(report.read_text())
    assert found["records"] == 1000 and 0.03 < found["hours"] < 0.08
    assert found["index"]["mapped_mb"] == pytest.approx(0.04, abs=0.02)
    assert len(found["restore_seconds"]) == 4 and picture.stat().st_size > 5000
    assert found["watched"]["epochs"] > 1 and len(found["watched"]["loader_mb"]) > 40
    assert min(found["watched"]["loader_mb"]) > 10 and min(found["watched"]["workers_mb"]) > 10


def test_memory_that_never_moves_has_no_slope(soak):
    """Not one of 1e-13, as rounding has it, with an interval as narrow."""
    assert soak.slope(np.arange(600.0), np.full(600, 162.267136), warm_up=150)["holds_zero"]


@pytest.mark.parametrize("leak", [0.0, 50.0])
def test_a_leak_is_seen_and_noise_is_none(soak, leak):
    """MB per hour under noise of 1 MB and a saw-tooth of 3 MB; the warm-up's rise is left out."""
    seconds = np.arange(600.0)
    noise = np.random.default_rng(0).standard_normal(600) + 3 * (seconds % 37) / 37 + 100 * np.exp(-seconds / 20)
    found = soak.slope(seconds, 200 + noise + leak * seconds / 3600, warm_up=150)
    assert found["holds_zero"] == (leak == 0)
    assert found["interval"][0] <= leak <= found["interval"][1]
    assert found["interval"][1] - found["interval"][0] < 30
