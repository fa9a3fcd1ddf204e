"""benchmarks/objective_costs.py: a row from given times, and all of it in small."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


def test_ratios_are_of_the_two_steps_of_a_turn(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    from objective_costs import Step, cells

    ours, peer = Step(lambda: None, 30 * 10**9, 2_000_000), Step(lambda: None, 20 * 10**9, 1_000_000)
    times = [1.0, 6.0, 2.0], [1.0, 3.0, 4.0]  # the load of the second turn was on both
    assert cells("new", ours, peer, times, 10.0) == ["new", "2", "200", "300", "1.00 [0.50, 2.00]", "3", "1.50"]
    assert cells("peer", peer, peer, (times[1], times[1]), 10.0) == ["peer", "1", "300", "300", "1", "2", "1"]


COMMAND = [sys.executable, FOLDER / "objective_costs.py", "--quick", "--turns", "2"]


def test_figures_of_toys_do_not_become_the_table():
    refused = subprocess.run(COMMAND, capture_output=True, text=True)
    assert refused.returncode == 2 and "--out" in refused.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads and sets the cores of a process as Linux has it")
def test_all_of_it_in_small(tmp_path):
    environment = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
    subprocess.run([*COMMAND, "--out", tmp_path], check=True, env=environment)
    report = json.loads((tmp_path / "objective_costs.json").read_text())
    head, peer, row = report["table"]
    assert (peer[0], row[0]) == ("tiny:hubert", "tiny:best_rq") and len(head) == len(peer) == len(row)
    assert all(len(pair) == 2 and min(pair) > 0 for pair in report["processor_seconds"]["tiny:best_rq"])
    assert len(report["processor_seconds"]["tiny:best_rq"]) == 2
    assert (tmp_path / "objective_costs.md").read_text().count("\n| ") == 2
