"""Which checkpoints stay, what is none, and what a disk does to them."""

import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest
from training.test_resume import assert_same_run
from training.toy import ToyObjective, main, toy_batches, toy_config, train

from jepa_speech.errors import UsageError, UserError
from jepa_speech.settings.training import TrainConfig
from jepa_speech.training.checkpoint import Checkpoints, read_weights
from jepa_speech.training.state import TrainState


def small_state(step: int) -> TrainState:
    scalar = np.array(step, np.int32)
    return TrainState({"w": np.full(3, step, np.float32)}, {}, {"mu": np.zeros(3)}, scalar, scalar, scalar, scalar)


def there(run: Path) -> list[int]:
    return sorted(int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdigit())


def test_newest_best_and_every_nth_stay(tmp_path):
    policy = {"keep": 1, "keep_every": 6, "best": "loss"}
    with Checkpoints(tmp_path, **policy) as checkpoints:
        for step, loss in ((2, 5.0), (4, 1.0), (6, 2.0), (8, float("nan")), (10, 3.0)):
            checkpoints.save(step, small_state(step), {"loss": loss, "grad_norm": 0.0})
            checkpoints.wait()
            assert checkpoints.latest == step  # the newest, best or not
    assert there(tmp_path) == [4, 6, 10]
    with Checkpoints(tmp_path, **policy) as checkpoints:  # what was best is known after a restart
        for step, loss in ((12, 0.5), (14, 4.0)):
            checkpoints.save(step, small_state(step), {"loss": loss})
        assert checkpoints.latest == 14
    assert there(tmp_path) == [6, 12, 14]
    assert read_weights(tmp_path)[1]["params/w"].tolist() == [14, 14, 14]
    with Checkpoints(tmp_path, keep=1) as checkpoints:  # no figure, no others
        checkpoints.save(16, small_state(16))
    assert there(tmp_path) == [16]


def test_a_half_written_folder_is_no_checkpoint(tmp_path):
    """As a kill leaves it: a temporary name, part of the files. It is neither read nor kept."""
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(2, small_state(2))
    half = tmp_path / "checkpoints" / "4.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "checkpoints" / "2", half)
    shutil.rmtree(half / "progress")
    assert read_weights(tmp_path)[0] == 2
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.latest == 2
        checkpoints.save(4, small_state(4))
    assert there(tmp_path) == [2, 4] and not half.exists()


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """The system fails every write past so many bytes of a file: as real as a full disk, and without privileges."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


FULL = r"a checkpoint could not be written \(File too large\); free disk space and run the same command"


@pytest.mark.parametrize("size", [50, 200, 390, 1000])
def test_a_write_that_fails_is_one_line_and_no_checkpoint(tmp_path, capfd, size):
    """Of orbax's own files, of TensorStore's, and of the checksums, which are the largest here."""
    with pytest.raises(UserError, match=FULL), Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(2, small_state(2))
        checkpoints.wait()
        with files_up_to(size):
            checkpoints.save(4, small_state(4))
            checkpoints.wait()
    assert capfd.readouterr() == ("", "")
    assert there(tmp_path) == [2] and read_weights(tmp_path)[0] == 2


def test_after_a_full_disk_the_run_goes_on_from_the_last_whole_checkpoint(tmp_path, monkeypatch):
    config = toy_config()
    save = Checkpoints.save

    def full(self, step, state, figures=None):
        self.wait()
        with files_up_to(200) if step == 8 else nullcontext():
            save(self, step, state, figures)
            self.wait()

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", full)
        with pytest.raises(UserError, match=FULL):
            train(config, ToyObjective(), toy_batches(config), tmp_path / "cut")
    assert there(tmp_path / "cut") == [4]
    # A user's process has ended by now; of this one, threads of the failed save may still write to its folder.
    shutil.copytree(tmp_path / "cut", tmp_path / "again", ignore=shutil.ignore_patterns("*-tmp"))
    assert train(config, ToyObjective(), toy_batches(config), tmp_path / "again")["step"] == 12
    main(str(tmp_path / "whole"))
    assert_same_run(tmp_path / "whole", tmp_path / "again")


def test_a_folder_that_cannot_be_is_told(tmp_path):
    (tmp_path / "run").write_text("a file stands where the run folder should")
    with pytest.raises(UserError, match="run/checkpoints: cannot be written"):
        Checkpoints(tmp_path / "run", keep=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keep_every": 6}, "checkpoints come every 4 steps"),
        ({"keep_every": -4}, "train.keep_every = -4: 0 or more"),
        ({"watchdog_seconds": -1}, "train.watchdog_seconds = -1: 0 or more"),
    ],
)
def test_policies_that_make_no_sense(changes, message):
    with pytest.raises(UsageError, match=message):
        TrainConfig(checkpoint_every=4, **changes)


def test_best_in_a_figure_that_is_not_there(tmp_path):
    config = toy_config(best="perplexity")
    with pytest.raises(UsageError, match=r"train\.best = 'perplexity': no such figure; there are epoch, loss, "):
        train(config, ToyObjective(), toy_batches(config), tmp_path)
