"""A damaged checkpoint is named in one line and never loaded; going back to a whole one deletes nothing."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.damage import KINDS, damage
from training.test_checkpoint import small_state, there
from training.test_resume import assert_same_run
from training.toy import ToyObjective, main, toy_batches, toy_config, train

from jepa_speech.errors import UsageError, UserError
from jepa_speech.training import checkpoint, checksums
from jepa_speech.training.checkpoint import Checkpoints, read_weights
from jepa_speech.training.checkpoint_steps import best_step
from jepa_speech.training.from_step import go_back

METADATA = "_CHECKPOINT_METADATA"


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A run of checkpoints 2 and 4, whose weights are all 2 and all 4."""
    run = tmp_path_factory.mktemp("saved") / "run"
    with Checkpoints(run, keep=2, best="loss") as checkpoints:
        for step in (2, 4):
            checkpoints.save(step, small_state(step), {"loss": 5.0 - step})
    return run


@pytest.fixture
def run(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "run"))


def remove_checksums(folder: Path) -> None:
    """Makes of a checkpoint what the version before checksums saved."""
    (folder / "checksums.json").unlink()
    metadata = json.loads((folder / METADATA).read_text())
    (folder / METADATA).write_text(json.dumps(metadata | {"custom_metadata": {}}))


def refused(run: Path) -> str:
    """The line by which both reading and going on refuse the newest checkpoint, 4; they name the other one."""
    with pytest.raises(UserError) as read:
        read_weights(run)
    assert str(read.value).endswith(f", or take {run}/checkpoints/2, the newest whole one")
    with pytest.raises(UserError) as resumed, Checkpoints(run, keep=2, best="loss") as checkpoints:
        checkpoints.check()
    line = str(read.value).partition("; copy it again")[0]
    assert str(resumed.value).startswith(f"{line}; copy it again, or ") and "\n" not in line
    assert str(resumed.value).endswith(("add --from-step 2 to the command", "or move it away"))
    return line.removeprefix(f"{run}/checkpoints/4 is damaged: ")


@pytest.mark.parametrize("kind", KINDS)
def test_any_damage_to_any_file_is_named(run, saved, capfd, kind):
    random = np.random.default_rng(list(kind.encode()))
    for _ in range(25):
        done = damage(run / "checkpoints" / "4", random, [kind])
        assert refused(run).startswith(f"{done.name} "), done
        shutil.copy(saved / "checkpoints" / "4" / done.name, done.path)
    assert read_weights(run)[0] == 4 and capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "gone", ["weights", "weights/d", "progress", "progress/ocdbt.process_0", "progress/ocdbt.process_0/d", "metrics"]
)
def test_a_folder_that_was_not_copied_is_named(run, gone):
    shutil.rmtree(run / "checkpoints" / "4" / gone)
    assert refused(run).startswith(gone) and refused(run).endswith(" is missing")


def test_the_checksums_themselves_are_not_taken_on_trust(run):
    path = run / "checkpoints" / "4" / "checksums.json"
    whole, random = path.read_bytes(), np.random.default_rng(0)
    for byte in random.choice(len(whole), 300, replace=False):
        data = bytearray(whole)
        data[byte] ^= 1 << random.integers(8)
        path.write_bytes(data)
        assert checksums.damage(path.parent) == "checksums.json is not what was written", byte
    for files in ({}, {"../../config.json": [1, 2]}, {"/etc/hostname": [1, 2]}, {"a": "bc"}, {"a": [1]}, []):
        path.write_text(json.dumps({"files": files, "crc": checksums.crc_of(files)}))
        assert refused(run) == "checksums.json is not what was written"
    for text in ("", "{}", "[]", '{"files": {}}'):
        path.write_text(text)
        assert refused(run) == "checksums.json is not what was written"


def test_a_kill_before_the_rename_leaves_no_checkpoint_and_one_after_it_a_whole_one(run, saved, monkeypatch, capfd):
    """After the rename the checksums of two small files are lacking yet; going on adds them."""
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "complete_checksums", lambda folder: None)
        with Checkpoints(run, keep=2) as checkpoints:
            checkpoints.save(6, small_state(6))
    folder = run / "checkpoints" / "6"
    known = json.loads((folder / "checksums.json").read_text())["files"]
    assert METADATA not in known and "commit_success.txt" not in known and "weights/_METADATA" in known
    assert read_weights(run)[0] == 6
    whole = (folder / METADATA).read_bytes()
    for text in (b"", b"[]", b"{}", b"[" * 100_000, b'{"custom_metadata": {"checksums": "checksums.jso"}}'):
        (folder / METADATA).write_bytes(text)
        with pytest.raises(UserError, match=f"6 is damaged: {METADATA} is not what was written"):
            read_weights(run)
    (folder / METADATA).write_bytes(whole)
    for name in (METADATA, "commit_success.txt"):
        whole = (folder / name).read_bytes()
        (folder / name).unlink()
        with pytest.raises(UserError, match=f"6 is damaged: {name} is missing"):
            read_weights(run)
        (folder / name).write_bytes(whole)
    like = small_state(0)
    with Checkpoints(run, keep=2) as checkpoints:
        assert checkpoints.restore(like).params["w"].tolist() == [6, 6, 6]
    (folder / "commit_success.txt").write_text("Checkpoint commit was successful to another place")
    with pytest.raises(UserError, match=r"6 is damaged: commit_success\.txt has"):
        read_weights(run)
    assert capfd.readouterr() == ("", "")


def test_checkpoints_without_checksums_still_open(run, capfd):
    for step in (2, 4):
        remove_checksums(run / "checkpoints" / str(step))
    assert read_weights(run)[1]["params/w"].tolist() == [4, 4, 4]
    said = capfd.readouterr().err
    assert said == f"{run}/checkpoints/4 was saved without checksums: damage to its arrays would not be noticed\n"
    with Checkpoints(run, keep=2, best="loss") as checkpoints:
        checkpoints.restore(small_state(0))
        checkpoints.save(6, small_state(6))
    assert there(run) == [4, 6] and best_step(run, "loss") == 4


@pytest.mark.parametrize("gone", [METADATA, "weights", "weights/d", "progress/_METADATA", "weights/manifest.ocdbt"])
def test_parts_missing_from_a_checkpoint_without_checksums_are_one_line(run, capfd, gone):
    folder = run / "checkpoints" / "4"
    remove_checksums(folder)
    (shutil.rmtree if (folder / gone).is_dir() else Path.unlink)(folder / gone)
    assert refused(run).startswith(gone)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["weights/manifest.ocdbt", "weights/_METADATA", "weights/d"])
def test_what_orbax_cannot_read_of_a_checkpoint_without_checksums_is_one_line(run, capfd, name):
    folder = run / "checkpoints" / "4"
    remove_checksums(folder)
    damage(folder / name, np.random.default_rng(0), ["cut"])
    with pytest.raises(UserError) as read:
        read_weights(run)
    with pytest.raises(UserError) as resumed, Checkpoints(run, keep=2, best="loss") as checkpoints:
        checkpoints.check()
        checkpoints.restore(small_state(0))
    for error in (read, resumed):
        assert str(error.value).startswith(f"{folder} is damaged: it cannot be read (")
        assert "\n" not in str(error.value)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2 and all("was saved without checksums" in line for line in lines)


def test_the_best_is_not_chosen_by_damaged_figures(run):
    (run / "checkpoints" / "2" / "metrics" / "metrics").write_text('{"loss": 0.5}')
    for choose in (lambda: best_step(run, "loss"), lambda: Checkpoints(run, keep=1, best="loss")):
        with pytest.raises(UserError, match="checkpoints/2 is damaged: metrics/metrics holds other bytes than were"):
            choose()


def test_a_checkpoint_is_named_by_its_folder(run):
    assert read_weights(run / "checkpoints" / "2")[1]["params/w"].tolist() == [2, 2, 2]
    with pytest.raises(UserError, match="has no checkpoint of step 3; choose one of 2, 4"):
        read_weights(run, 3)
    nested = shutil.copytree(run, run.parent / "checkpoints" / "2")  # a run folder that only looks like a checkpoint
    assert read_weights(nested)[0] == 4


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    state = small_state(2)
    state.params["w"][1] = value
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(2, state)
    with pytest.raises(UserError, match="checkpoints/2: params/w holds NaN or infinite values"):
        read_weights(tmp_path)


def test_going_back_ends_as_if_nothing_had_been_and_deletes_nothing(tmp_path, capsys):
    config, whole, run = toy_config(keep=3), tmp_path / "whole", tmp_path / "run"
    main(str(whole), -1, "keep=3")
    shutil.copytree(whole, run)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 13, "loss": 0.5}\n')  # of a step that a kill undid
    rows = (run / "metrics.jsonl").read_bytes()

    def go_on(step: int | None = None) -> dict:
        return train(config, ToyObjective(), toy_batches(config), run, from_step=step)

    damage(run / "checkpoints" / "12", np.random.default_rng(0))
    with pytest.raises(UserError, match=r"12 is damaged: .* step 8, the newest whole one: add --from-step 8 to the"):
        go_on()
    assert (run / "metrics.jsonl").read_bytes() == rows
    with pytest.raises(UsageError, match=r"from_step 9: .* has no such checkpoint; there are 4, 8, 12"):
        go_on(9)
    with pytest.raises(UserError, match=r"12 is damaged: .* or go back to step 8 with --from-step 8"):
        go_on(12)
    capsys.readouterr()
    assert go_on(8)["step"] == 12
    aside = run / "aside" / "from-8"
    assert f"continues from step 8; newer checkpoints (12) and the old metrics.jsonl are in {aside}" in str(
        capsys.readouterr().err
    )
    assert_same_run(whole, run)
    assert {path.name for path in aside.iterdir()} == {"12", "metrics.jsonl"}
    assert (aside / "metrics.jsonl").read_bytes() == rows
    again = go_on(8)  # a scheduler that repeats its command loses nothing
    assert again["step"] == 12 and again["finished_before"]
    assert f"went back to step 8 before (see {aside}): the run continues from step 12" in capsys.readouterr().err
    damage(run / "checkpoints" / "12", np.random.default_rng(1))
    go_back(run, 8, print)
    assert there(run) == [4, 8] and {"12", "12-2", "metrics.jsonl-2"} < {path.name for path in aside.iterdir()}
