"""Several processes train as one in a run folder in a bucket, on one machine or on several that share nothing else."""

import sys
from pathlib import Path

import numpy as np
from support.bucket_servers import BUCKET, names
from training.several import run
from training.test_step import rows

from jepa_speech.training.checkpoint import read_weights
from jepa_speech.training.run_in_bucket import RunInBucket

PROCESSES = Path(__file__).with_name("processes.py")


def trained(*arguments: object) -> list[int]:
    """Trains with two processes that each hold half of the arrays; returns their exit codes."""
    return [code for code, _ in run([sys.executable, PROCESSES, *arguments], processes=2, devices=2)]


def test_two_machines_train_and_another_one_resumes(buckets, machine, tmp_path, monkeypatch):
    assert trained(tmp_path / "local", 2) == [0, 0]
    url = f"gs://{BUCKET}/runs/two"
    machine("any", "gs")
    with monkeypatch.context() as apart:
        apart.setenv("CACHES", str(tmp_path / "apart"))
        assert 0 not in trained(url, 2, 7)
    there = names(buckets["gs"], "runs/two")
    assert {"config.json", "metrics.jsonl", "events.jsonl", "events-1.jsonl", "checkpoints/6/checksums.json"} < there

    assert trained(url, 2) == [0, 0]  # both processes on one other machine
    machine("reads", "gs")
    copy = RunInBucket(url)
    copy.fetch_run()
    assert rows(copy.folder) == rows(tmp_path / "local")
    mine, theirs = (read_weights(folder) for folder in (copy.folder, tmp_path / "local"))
    assert mine[0] == theirs[0] == 12 and mine[1].keys() == theirs[1].keys()
    for name, array in theirs[1].items():
        np.testing.assert_array_equal(mine[1][name], array)
    for name in ("events", "events-1"):
        starts = [row for row in rows(copy.folder, name) if "alive" in row]
        assert [row["event"] for row in starts] == ["start", "resume"]
        assert rows(copy.folder, name)[-1]["event"] == "done"
