"""Loggers: what a start imports, what is refused, what a resumed run shows, and what a failing service costs."""

import importlib.util
import json
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from training.test_checkpoint import files_up_to
from training.toy import ToyObjective, toy_batches, toy_config, train

from jepa_speech.errors import UsageError, UserError
from jepa_speech.training.loggers.background import Background
from jepa_speech.training.loggers.mlflow import database_uri
from jepa_speech.training.loggers.tensorboard import TensorBoard

STARTED = """
import sys, pathlib
from training.toy import toy_config, UNREAD
from jepa_speech.objectives import parsed
from jepa_speech.training.loggers.chosen import Loggers
config, folder = parsed(toy_config() | UNREAD), pathlib.Path(sys.argv[1])
loggers = Loggers(config, folder, 0, list)
loggers.log(1, {"loss": 2.5, "grad_norm": float("nan"), "epoch": 0})
loggers.close()
assert not {"torch", "wandb", "mlflow"} & sys.modules.keys()
import torch  # found again
assert torch.loaded
other = pathlib.Path(sys.argv[1], "process-1")
Loggers(config, other, 0, list, writes=False).log(1, {"loss": 2.5})
assert not other.exists()
"""


def test_a_start_imports_no_package_that_it_does_not_need(tmp_path):
    """TensorBoard's writer imports torch for an annotation, if it can: a second or two of each start."""
    (tmp_path / "torch.py").write_text("loaded = True\n", encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    subprocess.run([sys.executable, "-c", STARTED, str(tmp_path / "run")], env=environment, check=True)
    (written,) = (tmp_path / "run" / "tensorboard").iterdir()
    assert b"loss" in written.read_bytes() and b"grad_norm" not in written.read_bytes()


def test_plots_that_cannot_be_written_end_with_one_line_and_no_thread(tmp_path, capfd):
    threads = threading.active_count()
    board = TensorBoard(tmp_path, 4)
    board.log(5, {"loss": 1.0, "skipped": 0})
    (written,) = tmp_path.iterdir()
    whole = written.read_bytes()
    with files_up_to(len(whole)):
        for step in (6, 7):
            board.log(step, {"loss": 0.5})
        board.close()
    assert capfd.readouterr().err == f"{tmp_path}: no more plots (File too large); metrics.jsonl has the figures\n"
    assert written.read_bytes() == whole and b"loss" in whole and b"skipped" in whole
    assert threading.active_count() == threads


def test_a_logger_that_is_unknown_or_not_installed_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    config = toy_config(loggers=("tensorbored",))
    with pytest.raises(UsageError, match=r"^config key train.loggers = 'tensorbored': expected tensorboard \| wandb"):
        train(config, ToyObjective(), toy_batches(config), tmp_path / "run")
    config = toy_config(loggers=("tensorboard", "wandb"))
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "wandb" else find(name, *rest))
    with pytest.raises(UserError, match=r"names wandb, but wandb is not installed: run pip .* '.\[wandb\]'"):
        train(config, ToyObjective(), toy_batches(config), tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Recorder:
    """A service in memory. fails: the step at which the network is gone; blocks: waits at `close` until set."""

    def __init__(self, last: int, fails: int = 0, blocks: threading.Event | None = None) -> None:
        self.last, self.fails, self.blocks, self.got = last, fails, blocks, []

    def log(self, step, values):
        if step == self.fails:
            raise ConnectionError("host\nunreachable")
        self.got.append(step)

    def close(self):
        if self.blocks:
            self.blocks.wait()


@pytest.mark.parametrize(
    ("last", "fails", "got", "line"),
    [
        (0, 0, [1, 3, 6, 9, 12], ""),
        (3, 0, [6, 9, 12], ""),  # it lost 6
        (9, 0, [12], ""),  # 9 was computed again
        (0, 6, [1, 3], "wandb: no more figures are logged there (ConnectionError: host\\nunreachable); "),
    ],
)
def test_a_service_gets_each_report_once_in_order_until_it_fails(capfd, last, fails, got, line):
    service = Recorder(last, fails)
    logger = Background("wandb", lambda: service, [(step, {"loss": 1.0}) for step in (1, 3, 6)])
    for step in (9, 12):
        logger.log(step, {"loss": 1.0})
    logger.close()
    assert service.got == got and capfd.readouterr().err == (line and f"{line}metrics.jsonl has all figures\n")


def test_a_service_that_blocks_delays_the_end_of_a_run_by_a_limit(capfd):
    release = threading.Event()
    logger = Background("mlflow", lambda: Recorder(0, blocks=release), [], close_seconds=0.01)
    logger.log(1, {})
    logger.close()
    release.set()
    logger.thread.join()
    assert capfd.readouterr().err.startswith("mlflow: not finished after 0.01 s, so the last figures may be missing")


def test_a_database_of_mlflow_is_not_written_beside_the_run_folder(tmp_path):
    assert database_uri(tmp_path / "ü #1") == f"sqlite:///{tmp_path}/ü #1/mlflow.db"
    for name in ("run?1", "100%20"):
        with pytest.raises(
            UserError, match=r"cannot have a database in .* because of \? or %: set MLFLOW_TRACKING_URI$"
        ):
            database_uri(tmp_path / name)


def wandb_rows(path: Path) -> list[dict]:
    """The history of a .wandb file: 7 bytes, then records in LevelDB's log format, in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole, rows = path.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        if (left := 2**15 - at % 2**15) < 7:  # no header fits into the block
            at += left
            continue
        _, size, kind = struct.unpack_from("<IHB", data, at)
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a record in one piece, or its last piece
            record, whole = Record.FromString(whole), b""
            if record.WhichOneof("record_type") == "history":
                rows.append(
                    {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
                )
    return rows


@pytest.mark.filterwarnings("default")  # of SQLAlchemy to MLflow
def test_wandb_and_mlflow_continue_one_run_in_a_folder_that_was_moved(tmp_path, monkeypatch, capfd):
    """The first process stops at step 10. Its checkpoint is of step 8, so step 9 is computed and reported twice."""
    pytest.importorskip("wandb")
    mlflow = pytest.importorskip("mlflow.tracking")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = toy_config(loggers=("wandb", "mlflow"))
    config["data"]["store"] = "x" * 600

    def stopping(start, stop):
        for number, batch in enumerate(toy_batches(config)(start, stop), start + 1):
            if number == 11:
                raise UserError("stopped")
            yield batch

    with pytest.raises(UserError, match="stopped"):
        train(config, ToyObjective(), stopping, tmp_path / "first")
    (offline,) = (tmp_path / "first" / "loggers" / "wandb").glob("offline-run-*")
    assert [row["_step"] for row in wandb_rows(*offline.glob("*.wandb"))] == [1, 3, 6, 9]
    run = (tmp_path / "first").rename(tmp_path / "moved")
    assert train(config, ToyObjective(), toy_batches(config), run)["step"] == 12
    assert "no more figures" not in capfd.readouterr().err and not (tmp_path / "first").exists()

    rows = {row["step"]: row for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())}
    expected = [(step, rows[step]["loss"]) for step in (1, 3, 6, 9, 12)]
    first, second = (run / "loggers" / "wandb").glob("offline-run-*")
    newest = max(first, second, key=lambda path: path.stat().st_mtime)
    assert newest.resolve() == (run / "loggers" / "wandb" / "latest-run").resolve()
    (path,) = newest.glob("*.wandb")
    assert [(row["_step"], row["loss"]) for row in wandb_rows(path)] == expected
    assert path.name == f"run-{json.loads((run / 'loggers' / 'wandb.json').read_text())['run_id']}.wandb"

    client = mlflow.MlflowClient(f"sqlite:///{run}/loggers/mlflow.db")
    kept = client.get_run(json.loads((run / "loggers" / "mlflow.json").read_text())["run_id"])
    assert [(x.step, x.value) for x in client.get_metric_history(kept.info.run_id, "loss")] == expected
    assert kept.info.status == "FINISHED" and kept.data.metrics["audio_seconds_per_second"] > 0
    assert kept.data.params["train.steps"] == "12" and kept.data.params["data.store"] == "x" * 500
