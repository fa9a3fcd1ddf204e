"""Which checkpoint of a run is meant: by number, the newest, the best; and what is said where there is none."""

import json
import re
from pathlib import Path

import pytest
from training.test_checkpoint import small_state

from jepa_speech.errors import UsageError, UserError
from jepa_speech.files import write_json, write_jsonl
from jepa_speech.training.checkpoint import Checkpoints, read_weights
from jepa_speech.training.checkpoint_steps import at_step, best_figure, best_step, name_of, was_kept

HELDOUT = {2: 3.0, 4: 1.0, 6: 1.0, 8: 2.0}


def write_run(folder: Path, best: str = "", saved: dict | None = None) -> Path:
    """Checkpoints 2, 4, 6 and 8, whose weights are all their step, with HELDOUT as their losses in metrics.jsonl."""
    with Checkpoints(folder, keep=4, best=best) as checkpoints:
        for step in HELDOUT:
            checkpoints.save(step, small_state(step), (saved or {}).get(step))
    rows = [{"step": step, "loss": 9.0 - step} for step in range(1, 10)]
    write_jsonl(folder / "metrics.jsonl", [r | with_heldout(r["step"]) for r in rows])
    write_json(folder / "config.json", {"seed": 0, "train": {"best": best}, "objective": {"name": "toy"}})
    return folder


def with_heldout(step: int) -> dict:
    return {"heldout_loss": HELDOUT[step]} if step in HELDOUT else {}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("steps") / "run")


def test_each_step_is_the_checkpoint_of_its_number(run):
    for wanted, step in ((2, 2), (4, 4), ("latest", 8), ("best", 6)):  # of equal ones, the newest
        assert at_step(run, wanted) == run / "checkpoints" / str(step)
        assert read_weights(at_step(run, wanted))[1]["params/w"].tolist() == [step] * 3
    assert name_of(at_step(run, 4)) == "run-4" != name_of(run)
    assert at_step(run / "checkpoints" / "4", 4) == run / "checkpoints" / "4"


@pytest.mark.parametrize(
    ("wanted", "kind", "says"),
    [
        (3, UserError, "run: has no checkpoint of step 3; choose one of 2, 4, 6, 8"),
        (-1, UsageError, 'step -1: the number of a step, "latest" or "best"'),
        (True, UsageError, "step True"),
        ("newest", UsageError, "step 'newest'"),
    ],
)
def test_a_step_that_is_not_there_is_one_line_that_lists_those_that_are(run, wanted, kind, says):
    with pytest.raises(kind, match=re.escape(says)):
        at_step(run, wanted)


def test_two_different_steps_at_once_are_refused(run):
    for wanted in (4, "latest", "best"):
        with pytest.raises(UsageError, match=r"names a step already, and step .* is another one"):
            at_step(run / "checkpoints" / "2", wanted)


def test_what_is_no_run_has_no_steps(tmp_path):
    with pytest.raises(UserError, match="not a run folder"):
        at_step(tmp_path, "latest")
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="has no whole checkpoint yet"):
        at_step(tmp_path, 2)


def test_the_best_is_that_of_train_best_where_the_run_has_one(tmp_path):
    """By the figures that checkpoints were saved with, or else by metrics.jsonl, as after train.best has changed."""
    saved = {step: {"heldout_cer": cer} for step, cer in ((2, 0.1), (4, 0.2), (6, 0.3))}
    run = write_run(tmp_path / "run", "heldout_cer", saved)
    assert at_step(run, "best").name == "2"
    assert best_step(run, "heldout_loss") == 6 and best_step(run, "loss") == 8
    assert was_kept(run, "heldout_cer") and not was_kept(run, "heldout_loss") and not was_kept(run, "")
    (run / "metrics.jsonl").unlink()
    assert at_step(run, "best").name == "2" and best_step(run, "loss") is None


def test_a_loss_that_falls_with_its_weights_does_not_choose(tmp_path):
    """Objective gmm_jepa: its λ falls, and so does the loss, while the model gets worse."""
    run = write_run(tmp_path / "run")
    rows = [{"step": s, "heldout_loss": 10.0 - s, "heldout_cluster": 1.0 + s, "heldout_lambda": 1 / s} for s in HELDOUT]
    write_jsonl(run / "metrics.jsonl", rows)
    assert best_figure(run) == "heldout_cluster" and at_step(run, "best").name == "2"
    write_jsonl(run / "metrics.jsonl", [row | {"heldout_lambda": 0.5} for row in rows])
    assert best_figure(run) == "heldout_loss" and at_step(run, "best").name == "8"


def test_without_held_out_figures_none_is_the_best(run, tmp_path):
    run = write_run(tmp_path / "run")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for kept in ([{k: x for k, x in row.items() if k != "heldout_loss"} for row in rows], [], None):
        if kept is None:
            (run / "metrics.jsonl").unlink()
        else:
            write_jsonl(run / "metrics.jsonl", kept)
        with pytest.raises(UserError) as error:
            at_step(run, "best")
        assert "no heldout_loss at their steps (train with data.heldout" in str(error.value)
        assert str(error.value).endswith("choose one of 2, 4, 6, 8, or latest")


def test_figures_that_are_none_of_a_checkpoint_do_not_count(tmp_path):
    """Not finite (null), of a step without a checkpoint, or of a line that is half-written while training goes on."""
    run = write_run(tmp_path / "run")
    with (run / "metrics.jsonl").open("w") as file:
        for step, loss in ((2, 3.0), (3, 0.1), (4, None), (6, 2.0)):
            file.write(json.dumps({"step": step, "heldout_loss": loss}) + "\n")
        file.write('{"step": 8, "heldout_loss": 0.')
    assert at_step(run, "best").name == "6"
    with (run / "metrics.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl:5"):
        at_step(run, "best")


def test_a_checkpoint_that_was_asked_for_is_never_another_one(run, tmp_path, monkeypatch):
    """Not even if a running training removes it, or its newer ones appear, while it is read."""
    from jepa_speech.training import checkpoint

    run = write_run(tmp_path / "run")

    def removed(run: Path, step: int, instead: str) -> None:
        with Checkpoints(run, keep=1) as checkpoints:
            checkpoints.save(10, small_state(10))
        monkeypatch.undo()
        raise UserError(f"{step} is damaged")

    monkeypatch.setattr(checkpoint, "check_undamaged", removed)
    with pytest.raises(UserError, match="8 is damaged"):
        read_weights(run / "checkpoints" / "8")
    assert read_weights(run)[0] == 10
