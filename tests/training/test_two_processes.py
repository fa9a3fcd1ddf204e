"""Two real processes as one run: what one of them meets, both act on at the same step; a lost one is noticed."""

import json
import signal
import sys
import time
from pathlib import Path

import pytest
from training.several import run, started
from training.test_resume import TOY
from training.test_step import rows

from jepa_speech.training.checkpoint import read_weights

pytestmark = pytest.mark.slow
ENDLESS = ("steps=1000000", "checkpoint_every=1000000")


def toy(workdir: Path, *arguments: object) -> list[object]:
    return [sys.executable, TOY, workdir, *arguments]


def test_nan_and_a_signal_on_one_of_two(tmp_path):
    """Both skip the batch, each names its records, both stop at one step with 75, both go on."""
    lengths = ("steps=400", "checkpoint_every=200")
    for code, said in run(toy(tmp_path, 20, "NAN", "SIGUSR1", *lengths), processes=2, devices=2):
        assert code == 75 and "SIGTERM: saved at step " in said, said
    step, _ = read_weights(tmp_path)
    metrics = rows(tmp_path)
    assert 21 <= step < 400 and len(metrics) == step
    assert [row["step"] for row in metrics if row["skipped_in_row"]] == [21] and metrics[-1]["skipped"] == 1
    events = [rows(tmp_path, name) for name in ("events", "events-1")]
    held = [[event["records"] for event in log if event["event"] == "skip"] for log in events]
    assert [len(records) for records in held] == [1, 1] and not set(held[0][0]) & set(held[1][0])
    assert [log[-1]["event"] for log in events] == ["interrupted", "interrupted"]
    assert events[0][-1]["step"] == events[1][-1]["step"] == step
    saved = tmp_path / "checkpoints" / str(step)
    summed = json.loads((saved / "checksums.json").read_text())["files"]
    assert summed.keys() == {p.relative_to(saved).as_posix() for p in saved.rglob("*") if p.is_file()} - {
        "checksums.json"
    }
    for code, said in run(toy(tmp_path, -1, *lengths), processes=2, devices=2):
        assert code == 0, said
    assert len(rows(tmp_path)) == 400


@pytest.mark.parametrize(
    ("victim", "way", "named"),
    [
        (0, signal.SIGKILL, "the leader (usually slice 0 task 0)"),
        (0, signal.SIGSTOP, "RPC: /xla.coordination.CoordinationService/Heartbeat"),  # they go to process 0
        (1, signal.SIGKILL, "stopped sending heartbeats):\n1\n"),
        (1, signal.SIGSTOP, "stopped sending heartbeats):\n1\n"),
    ],
    ids=["0 killed", "0 out of reach", "1 killed", "1 out of reach"],
)
def test_a_lost_peer_is_noticed_within_a_minute_and_named(tmp_path, victim, way, named):
    """In the middle of training, with the time-outs that a user has; 134 asks for another start. A process that is
    stopped closes no connection, as a host without power does not."""
    metrics = tmp_path / "metrics.jsonl"
    with started(toy(tmp_path, -1, *ENDLESS), processes=2, devices=2) as running:
        while not metrics.exists() or metrics.read_bytes().count(b"\n") < 5:
            assert [process.poll() for process in running] == [None, None], running[0].words
            time.sleep(0.1)
        running[victim].send_signal(way)
        lost, survivor = time.monotonic(), running[1 - victim]
        assert survivor.wait(120) == -signal.SIGABRT, survivor.words
        assert time.monotonic() - lost < 60 and named in survivor.words, survivor.words
