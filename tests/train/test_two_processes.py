"""Two real processes as one run: what one of them meets, both act on at the same step."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from train.test_resume import TOY
from train.test_step import rows

from jepa_speech.train.checkpoint import read_weights
from jepa_speech.train.distributed import COORDINATOR, PROCESS, PROCESSES


def two(workdir: Path, *arguments: object) -> list[tuple[int, str]]:
    """The toy on two processes of one device each: exit code and stderr of each."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        shared = {COORDINATOR: f"127.0.0.1:{probe.getsockname()[1]}", PROCESSES: "2", "XLA_FLAGS": ""}
    command = [sys.executable, str(TOY), str(workdir), *map(str, arguments)]
    started = [
        subprocess.Popen(command, env=os.environ | shared | {PROCESS: str(i)}, stderr=subprocess.PIPE, text=True)
        for i in range(2)
    ]
    try:
        said = [process.communicate(timeout=300)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, words) for process, words in zip(started, said, strict=True)]


@pytest.mark.slow
def test_nan_and_sigterm_on_one_of_two(tmp_path):
    """Both skip the batch, each names its records, both stop at one step with 75, both go on."""
    for code, said in two(tmp_path, 20, "NAN", "SIGTERM", "steps=400", "checkpoint_every=200"):
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
    assert [code for code, _ in two(tmp_path, -1, "steps=400", "checkpoint_every=200")] == [0, 0]
    assert len(rows(tmp_path)) == 400
