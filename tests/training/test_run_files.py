"""A run folder of which a part is missing or damaged: one line with what to do, and nothing is lost."""

import json
import shutil
from pathlib import Path

import pytest
from support.folder_contents import contents
from training.test_resume import assert_same_run
from training.toy import ToyObjective, main, toy_batches, toy_config, train

from jepa_speech.cli import main as cli_main
from jepa_speech.errors import UserError
from jepa_speech.training.metrics import RunLog
from jepa_speech.training.run_files import had_checkpoint
from jepa_speech.wording import counted


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run that ended at step 12; its checkpoints are of the steps 8 and 12."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    main(str(workdir))
    return workdir


def go_on(run: Path) -> dict:
    config = toy_config()
    return train(config, ToyObjective(), toy_batches(config), run)


def lines(text: bytes) -> list[bytes]:
    return text.splitlines(keepends=True)


LOST = {  # what is done to the bytes of metrics.jsonl of 12 rows, and what the line says
    "gone": (None, "metrics.jsonl is missing, and with it the rows of steps 1 to 12"),
    "empty": (lambda text: b"", "ends before the row of step 1,"),
    "cut after a row": (
        lambda text: b"".join(lines(text)[:7]),
        "ends before the row of step 8, and the checkpoint is of 12",
    ),
    "cut within a row": (lambda text: text[:-20], "ends before the row of step 12,"),
    "a row less": (lambda text: b"".join(lines(text)[:3] + lines(text)[4:]), "metrics.jsonl:4 holds step 5, not 4"),
    "a row twice": (lambda text: b"".join([*lines(text)[:3], *lines(text)[2:]]), "metrics.jsonl:4 holds step 3, not 4"),
    "no JSON": (lambda text: text.replace(b'"loss"', b'"loss', 1), "metrics.jsonl:1: not valid JSON"),
    "no UTF-8": (lambda text: text.replace(b"loss", b"lo\xf3s", 1), "metrics.jsonl:1: not valid JSON"),
    "no object": (lambda text: b"[]\n" + text, "metrics.jsonl:1: a JSON object was expected"),
    "a value that is none": (
        lambda text: text.replace(b'"epoch": 0', b'"epoch": "0"', 1),
        "epoch = '0': expected a number",
    ),
    "another digit": (lambda text: text.replace(b"0.0", b"0.1", 1), "were altered (their SHA-256"),
    "another name": (lambda text: text.replace(b'"loss"', b'"lose"', 1), "were altered (their"),
}


@pytest.mark.parametrize("damage", LOST)
def test_rows_that_are_lost_are_told_and_none_is_written(whole, tmp_path, damage):
    run = shutil.copytree(whole, tmp_path / "run")
    change, message = LOST[damage]
    path = run / "metrics.jsonl"
    path.unlink() if change is None else path.write_bytes(change(path.read_bytes()))
    before = contents(run)
    with pytest.raises(UserError) as caught:
        go_on(run)
    assert message in str(caught.value) and "another --workdir" in str(caught.value)
    assert "\n" not in str(caught.value) and contents(run) == before


def test_rows_lost_for_good_may_be_named_as_such(whole, tmp_path):
    """As docs/training.md says: a row that holds its step alone."""
    run = shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "12")
    events = (run / "events.jsonl").read_text().splitlines(keepends=True)
    (run / "events.jsonl").write_text("".join(line for line in events if '"save"' not in line))
    (run / "metrics.jsonl").write_text("".join(f'{{"step": {step}}}\n' for step in range(1, 9)))
    assert go_on(run)["step"] == 12
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 13)) and rows[7].keys() == {"step"} and rows[8]["loss"] > 0


def test_going_on_from_an_older_checkpoint_writes_the_same_rows(whole, tmp_path, capsys):
    run = shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "12")
    capsys.readouterr()
    go_on(run)
    assert capsys.readouterr().err.startswith("resumes from step 8 of 12\n")
    assert_same_run(whole, run)


def test_a_run_that_moves_to_another_number_of_cores_says_that_bits_may_differ(whole, tmp_path, capsys):
    run = shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "12")
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    now = events[0]["cores"]
    events[0]["cores"] = 999
    (run / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    capsys.readouterr()
    go_on(run)
    assert capsys.readouterr().err.startswith(f"resumes from step 8 of 12 on {counted(now, 'core')} instead of 999: ")


def test_a_start_on_no_number_of_cores_is_damage(whole, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "12")
    ledger = (run / "events.jsonl").read_text()
    (run / "events.jsonl").write_text(ledger.replace('"cores": ', '"cores": -', 1))
    with pytest.raises(UserError, match=r"events\.jsonl:1.*cores.*the ledger is damaged"):
        go_on(run)


def test_a_ledger_or_plots_that_are_gone_are_told(whole, tmp_path, capsys):
    run = shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "12")
    shutil.rmtree(run / "tensorboard")
    (run / "events.jsonl").unlink()
    go_on(run)
    shown = capsys.readouterr().err
    for name, lost in (("events.jsonl", "the times"), ("tensorboard", "the plots")):
        assert f"{run / name} is missing: {lost} up to step 8 are lost; training continues" in shown
    assert_same_run(whole, run)
    assert cli_main(["goodput", str(run)]) == 0
    assert "events.jsonl begins at step 8: earlier steps are not counted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda line: line[:-9] + b"\n", "not valid JSON"),
        (lambda line: b"[3]\n", "a JSON object was expected, not list"),
        (lambda line: line.replace(b'"time": ', b'"time": "x'), "not valid JSON"),
        (lambda line: line.replace(b'"time"', b'"tame"'), "the field time is missing"),
        (lambda line: line.replace(b'"step"', b'"stop"'), "the field step is missing"),
        (lambda line: line.replace(b'"began": ', b'"began": -'), None),
        (lambda line: line.replace(b'"seconds": ', b'"seconds": -'), "seconds = -"),
        (lambda line: line.replace(b'"lost_steps"', b'"lost_stepz"'), "the field lost_steps is missing"),
        (lambda line: line.replace(b'"alive": null', b'"alive": "x"'), "alive = 'x': expected int or float"),
        (lambda line: b'{"time": 1, "event": "steps", "after": 0, "to": 1, "seconds": 1, "compile": []}\n', "compile"),
    ],
)
def test_a_damaged_ledger_is_named_with_its_line(whole, tmp_path, capsys, change, message):
    run = shutil.copytree(whole, tmp_path / "run")
    first, *rest = lines((run / "events.jsonl").read_bytes())
    (run / "events.jsonl").write_bytes(b"".join([change(first), *rest]))
    before = contents(run)
    if message is None:
        go_on(run)
        return
    with pytest.raises(UserError, match=rf"events.jsonl:1: .*{message}.*repair or remove that line"):
        go_on(run)
    assert contents(run) == before
    assert cli_main(["goodput", str(run)]) == 1
    assert f"events.jsonl:1: {message}" in capsys.readouterr().err


def test_checkpoints_that_are_gone_are_told_and_no_row_is_cut(whole, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").mkdir()
    before = contents(run)
    with pytest.raises(UserError, match=r"events.jsonl names checkpoints, but there is none .* restore them, or use"):
        go_on(run)
    assert contents(run) == before


def test_what_a_ledger_tells_of_checkpoints():
    def told(*names: str) -> bool:
        return had_checkpoint([{"event": name, "step": 0 if name == "start" else 4} for name in names])

    assert not told() and not told("start", "save") and not told("start", "save", "start", "save")
    assert told("start", "save", "save") and told("resume") and told("start", "done") and told("start", "interrupted")


def test_rows_before_the_first_checkpoint_are_written_again_but_not_over_a_foreign_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    log = RunLog(tmp_path, 0)
    log.close()
    assert path.read_text() == "" and log.lost_steps == 1
    for text in ("epoch,loss\n1,0.5\n", '{"epoch": 1}\n', '{"step": 1, "name": "x"}\n'):
        path.write_text(text)
        with pytest.raises(UserError, match=r"metrics.jsonl:1: .*use another --workdir, or move that file away"):
            RunLog(tmp_path, 0)
        assert path.read_text() == text


def test_a_figure_that_is_not_finite_is_null(tmp_path):
    log = RunLog(tmp_path, 0)
    log.row(1, {"loss": float("nan"), "grad_norm": float("inf"), "rate": 0.5})
    log.close()
    row = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert row == {"step": 1, "loss": None, "grad_norm": None, "rate": 0.5}
