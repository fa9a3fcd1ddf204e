"""run_folder.py: one process at a time writes a run folder, and only where nothing of another program is."""

import subprocess
import sys
from pathlib import Path

import pytest
from training.toy import ToyObjective, toy_batches, toy_config, train

from jepa_speech.errors import UserError
from jepa_speech.files import read_json
from jepa_speech.lock import LOCK, locked
from jepa_speech.training.checkpoint import read_weights
from jepa_speech.training.run_folder import run_folder

FOREIGN = {
    "config.json": '{"model_type": "hubert"}',
    "config.json, a list": "[]",
    "metrics.jsonl": '{"step": 1}\n',
    "events-3.jsonl": "{}\n",
    "stacks-0.txt": "text",
    "tensorboard/events": "text",
    "checkpoints/notes": "text",
    "checkpoints/5/weights": "text",
    "model.safetensors": "weights",
    "store.json": "{}",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_folder_of_another_program_is_refused_before_anything_is_written(tmp_path, name):
    path = tmp_path / name.partition(",")[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(FOREIGN[name])
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    config = toy_config()
    with pytest.raises(UserError, match="another"):
        train(config, ToyObjective(), toy_batches(config), tmp_path)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("name", ["", "log-7.out", "logs/x", "notes.md", "submit.sh"])
def test_logs_and_notes_are_in_nobodys_way(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    if name:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    with run_folder(tmp_path, "train"):
        assert (tmp_path / LOCK).exists()


def test_a_second_training_is_refused_and_the_first_one_goes_on(tmp_path):
    """In two processes."""
    config, seen = toy_config(steps=3, checkpoint_every=1), []
    toy = Path(__file__).with_name("toy.py")
    inner = toy_batches(config)

    def with_a_second(start, stop):
        for i, batch in enumerate(inner(start, stop)):
            if i == 1:
                second = subprocess.run([sys.executable, toy, tmp_path], capture_output=True, text=True, check=False)
                seen.append((second.returncode, second.stderr))
            yield batch

    assert train(config, ToyObjective(), with_a_second, tmp_path)["step"] == 3
    assert train(config, ToyObjective(), toy_batches(config), tmp_path)["finished_before"]
    assert seen[0][0] == 1 and f"{tmp_path}: in use by process " in seen[0][1] and "(train)" in seen[0][1]
    assert seen[0][1].count("\n") == 1
    rows = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert len(rows) == 3 and read_json(tmp_path / "config.json")["train"]["steps"] == 3


def test_a_folder_whose_path_is_not_utf8_is_refused_before_anything_is_written(tmp_path):
    """TensorStore would write no array there, and orbax would name no reason."""
    config, folder = toy_config(steps=3), tmp_path / "caf\udce9"
    for run in (folder, folder / "run"):
        for use in (lambda run: train(config, ToyObjective(), toy_batches(config), run), read_weights):
            with pytest.raises(UserError, match=r"caf\\udce9.*: not UTF-8, so no checkpoint can be there"):
                use(run)
    assert not list(tmp_path.iterdir())


def test_what_a_kill_left_of_a_checkpoint_goes_and_nothing_else(tmp_path):
    ours = tmp_path / "checkpoints" / "5.orbax-checkpoint-tmp" / "weights" / "d" / "x"
    theirs = [
        tmp_path / "checkpoints" / name / "x" for name in ("notes.orbax-checkpoint-tmp", "7.orbax-checkpoint-tmp")
    ]
    for path in (ours, *theirs):
        path.parent.mkdir(parents=True)
        path.write_text("x")
    (tmp_path / "config.json").write_text('{"seed": 0, "train": {}}')
    with run_folder(tmp_path, "train"):
        assert not ours.parents[2].exists()
    assert all(path.exists() for path in theirs)


def test_a_checkpoint_that_holds_a_file_of_another_program_is_not_deleted_with_it(tmp_path):
    (tmp_path / "checkpoints" / "5" / "weights").mkdir(parents=True)
    (tmp_path / "checkpoints" / "5" / ".DS_Store").touch()
    (tmp_path / "config.json").write_text('{"seed": 0, "train": {}}')
    with run_folder(tmp_path, "train"):
        pass
    (tmp_path / "checkpoints" / "3").mkdir()
    (tmp_path / "checkpoints" / "3" / "mine.txt").touch()
    with pytest.raises(UserError, match=r"3 holds mine.txt.* move it"), run_folder(tmp_path, "train"):
        pass


def test_processes_that_do_not_write_take_no_lock(tmp_path):
    with locked(tmp_path / LOCK, "train"), run_folder(tmp_path, "train", writes=False):
        pass
