"""What a run writes down costs its start nothing that it does not need."""

import os
import subprocess
import sys
import threading

import pytest
from train.test_checkpoint import files_up_to

from jepa_speech.train.board import Board
from jepa_speech.train.metrics import Bar

LOGGED = """
import sys, pathlib
from jepa_speech.train.metrics import RunLog
log = RunLog(pathlib.Path(sys.argv[1]), 0)
log.row(1, {"loss": 2.5}, plotted=True)
log.close()
assert "torch" not in sys.modules
import torch  # found again
assert torch.loaded
"""


def test_a_log_loads_no_torch(tmp_path):
    """TensorBoard's writer would, for an annotation: a second or two of each start where torch is installed."""
    (tmp_path / "torch.py").write_text("loaded = True\n", encoding="utf-8")
    (tmp_path / "run").mkdir()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    subprocess.run([sys.executable, "-c", LOGGED, str(tmp_path / "run")], env=environment, check=True)
    (written,) = (tmp_path / "run" / "tensorboard").iterdir()
    assert b"loss" in written.read_bytes()


def test_the_bar_counts_neither_compiling_nor_waits_at_the_start(monkeypatch):
    """Two buckets are compiled for 100 s each; a step takes 2 s."""
    now = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    bar = Bar(0, 100, shown=True)
    for _ in range(2):
        now[0] += 100.0
        bar.leave_out(100.0)
        now[0] += 2.0
        bar.show({"loss": 1.0}, {"audio_seconds_per_second": 1.0, "flops_per_second": 1.0, "data_wait_share": 0.0})
    shown = bar.bar.format_dict
    assert shown["elapsed"] == pytest.approx(4.0) and shown["n"] == 2
    assert shown["rate"] is None or shown["rate"] == pytest.approx(0.5)
    bar.close()


def test_plots_that_cannot_be_written_end_with_one_line_and_no_thread(tmp_path, capfd):
    threads = threading.active_count()
    board = Board(tmp_path, 4)
    board.add(5, {"loss": 1.0, "skipped": 0})
    (written,) = tmp_path.iterdir()
    whole = written.read_bytes()
    with files_up_to(len(whole)):
        for step in (6, 7):
            board.add(step, {"loss": 0.5})
        board.close()
    assert capfd.readouterr().err == f"{tmp_path}: no more plots (File too large); metrics.jsonl has the figures\n"
    assert written.read_bytes() == whole and b"loss" in whole and b"skipped" in whole
    assert threading.active_count() == threads
