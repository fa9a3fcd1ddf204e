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
def test_a_thousand_records(soak, tmp_path):
    report, picture = tmp_path / "soak.json", tmp_path / "soak.png"
    size = ["--records", "1000", "--seconds", "3", "--workers", "1"]
    subprocess.run([sys.executable, SCRIPT, *size, "--json", report, "--plot", picture], check=True)
    found = json.loads(report.read_text())
    assert found["records"] == 1000 and 0.03 < found["hours"] < 0.08
    assert found["index"]["mapped_mb"] == pytest.approx(0.04, abs=0.02)
    assert len(found["restore_seconds"]) == 4 and picture.stat().st_size > 5000
    assert found["growth"]["loader_mb"]["epochs"] >= soak.FEWEST and len(found["watched"]["loader_mb"]) > 10
    assert min(found["watched"]["loader_mb"]) > 10 and min(found["watched"]["workers_mb"]) > 10


SECONDS = np.arange(2000.0)
EPOCH = (SECONDS // 180).astype(int)  # 11 whole ones, and one cut off


def test_memory_that_never_moves_does_not_grow(soak):
    """Not by 1e-13, as rounding has it, with an interval as narrow."""
    assert soak.growth(SECONDS, np.full(2000, 162.267136), EPOCH)["holds_zero"]


@pytest.mark.parametrize("leak", [0.0, 50.0])
def test_a_leak_is_seen_and_noise_is_none(soak, leak):
    """MB per hour under noise of 1 MB and a saw-tooth of 3 MB; the warm-up's rise is left out."""
    noise = np.random.default_rng(0).standard_normal(2000) + 3 * (SECONDS % 37) / 37 + 100 * np.exp(-SECONDS / 20)
    found = soak.growth(SECONDS, 200 + noise + leak * SECONDS / 3600, EPOCH)
    assert found["epochs"] == 9 and found["holds_zero"] == (leak == 0)
    assert found["interval"][0] <= leak <= found["interval"][1]
    assert found["interval"][1] - found["interval"][0] < 30


def test_steps_at_the_ends_of_epochs_are_what_the_interval_is_of(soak):
    """An allocator that takes or gives back up to 5 MB when an epoch ends, for good: without bias, zero is left out in
    1 of 20 runs (by least squares through all samples, in most)."""
    random = np.random.default_rng(0)
    steps = random.uniform(-5, 5, (200, 12)).cumsum(1)[:, EPOCH]
    held = [soak.growth(SECONDS, 200 + step, EPOCH)["holds_zero"] for step in steps]
    assert 0.90 <= np.mean(held) <= 0.99
