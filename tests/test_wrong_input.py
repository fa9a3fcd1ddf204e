"""What users get wrong ends in one clear line, not in a traceback, and leaves nothing that passes for whole.

Every case is a command line, run as a user would run it (in this process), with the exit code and the words that
its one line must hold.
"""

import errno
import json
import os
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.clustered_audio import babble_store
from support.labelled_corpus import write_spoken

from jepa_speech import cli
from jepa_speech.training.run_json import config_of_a_run

CONFIGS = Path(__file__).parents[1] / "configs"
TOY = {
    "data.batch_seconds": 2,
    "data.buckets": 1.0,
    "encoder.width": 16,
    "encoder.blocks": 1,
    "encoder.heads": 2,
    "encoder.hidden": 32,
    "head.width": 16,
    "anchor.top_k": 3,
    "train.steps": 2,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a store, an anchor whose labels it holds, one whose it does not, and a trained toy."""
    folder = tmp_path_factory.mktemp("place")
    before = Path.cwd()
    os.chdir(folder)
    babble_store(folder, [1.0] * 4)
    fit = ["fit", "gmm", "--store", "store", "--iterations", "2"]
    for command in (
        [*fit, "--components", "4", "--out", "gmm.npz"],
        [*fit, "--components", "5", "--out", "other.npz"],
        ["label", "--store", "store", "--anchor", "gmm.npz", "--top-k", "3"],
        train("run"),
    ):
        assert cli.main(command) == 0, command
    (folder / "empty").mkdir()
    (folder / "short").mkdir()
    soundfile.write("short/a.wav", np.zeros(300), 16_000)
    (folder / "text.npz").write_text("not an archive")
    (folder / "unfinished").mkdir()
    shutil.copytree("store", "unfinished", dirs_exist_ok=True)
    Path("unfinished/store.json").unlink()
    write_spoken(folder / "spoken")
    Path("phoneless").mkdir()
    for path in Path("spoken").glob("*.manifest.jsonl"):
        shutil.copy(path, "phoneless")
    widened("run", "wide_run", 32)
    yield folder
    os.chdir(before)


def train(run: str, *overrides: str, config: str = "smoke.py", store: str = "store", anchor: str = "gmm.npz"):
    settings = [f"{key}={value}" for key, value in TOY.items()] + [f"data.store={store}", f"anchor.path={anchor}"]
    all_settings = [f"--config.{setting}" for setting in (*settings, *overrides)]
    return ["train", "--config", str(CONFIGS / config), "--workdir", run, *all_settings]


def widened(run: str, copy: str, width: int) -> None:
    """A run folder whose config tells of another encoder than its checkpoint holds."""
    shutil.copytree(run, copy)
    path = Path(copy, "config.json")
    config = config_of_a_run(path)
    config["encoder"]["width"] = width
    path.write_text(json.dumps(config))


CASES = {
    "config: unknown key": (2, "width", train("new", "encoder.widht=8")),
    "config: unknown section": (2, "unknown", train("new", "encodre.width=8")),
    "config: wrong type": (2, "train.steps", train("new", "train.steps=many")),
    "config: override without a value": (2, "=VALUE", [*train("new"), "--config.seed"]),
    "config: no such file": (2, "no such config", train("new", config="smokee.py")),
    "config: no such variant": (2, "nope", train("new", config="smoke.py:nope")),
    "config: has no variants": (2, "nope", train("new", config="gmm_jepa.py:nope")),
    "config: no such objective": (2, "gmm_jeppa", train("new", "objective.name=gmm_jeppa")),
    "config: no such encoder": (2, "conformist", train("new", "encoder.name=conformist")),
    "config: heads do not divide width": (2, "heads", train("new", "encoder.heads=3")),
    "config: bucket shorter than a frame": (2, "buckets", train("new", "data.buckets=0.01")),
    "train: no store": (2, "--config.data.store", train("new", store="")),
    "train: missing store": (1, "nowhere", train("new", store="nowhere")),
    "train: unfinished store": (1, "unfinished", train("new", store="unfinished")),
    "train: missing anchor": (1, "nowhere.npz", train("new", anchor="nowhere.npz")),
    "train: anchor that is no anchor": (1, "text.npz", train("new", anchor="text.npz")),
    "train: anchor of another feature kind": (2, "mfcc", train("new", "anchor.features=mfcc")),
    "train: anchor of another size": (2, "components", train("new", "anchor.components=8")),
    "train: labels of another anchor": (1, "label", train("new", anchor="other.npz")),
    "train: top-k above the components": (2, "top_k", train("new", "anchor.top_k=9")),
    "train: run folder of another architecture": (1, "encoder.width", train("run", "encoder.width=32")),
    "train: init_from a missing run": (1, "nowhere", train("new", "init_from=nowhere")),
    "prepare: missing folder": (1, "nowhere", ["prepare", "--input", "nowhere", "--out", "new"]),
    "prepare: empty folder": (1, "no recordings", ["prepare", "--input", "empty", "--out", "new"]),
    "prepare: shorter than a frame": (1, "reject", ["prepare", "--input", "short", "--out", "new"]),
    "prepare: not a store": (1, "not a store", ["prepare", "--input", "audio", "--out", "run"]),
    "fit: missing store": (1, "nowhere", ["fit", "gmm", "--store", "nowhere", "--out", "new.npz"]),
    "fit: unfinished store": (1, "unfinished", ["fit", "gmm", "--store", "unfinished", "--out", "new.npz"]),
    "fit: components above frames": (2, "frames", ["fit", "gmm", "--store", "store", "--out", "new.npz"]),
    "label: missing store": (1, "nowhere", ["label", "--store", "nowhere", "--anchor", "gmm.npz"]),
    "label: missing anchor": (1, "nowhere", ["label", "--store", "store", "--anchor", "nowhere.npz"]),
    "label: top-k above the components": (
        2, "components", ["label", "--store", "store", "--anchor", "other.npz", "--top-k", "9"],
    ),
    "probe: missing run": (1, "nowhere", ["probe", "--checkpoint", "nowhere", "--data", "spoken", "--out", "new"]),
    "probe: missing data": (1, "nowhere", ["probe", "--checkpoint", "logmel", "--data", "nowhere", "--out", "new"]),
    "probe: no phones": (
        1, "phones.jsonl", ["probe", "--checkpoint", "logmel", "--data", "phoneless", "--out", "new"],
    ),
    "probe: unknown task": (
        2, "tasks", ["probe", "--checkpoint", "logmel", "--data", "spoken", "--tasks", "tasks", "--out", "new"],
    ),
    "probe: random like nothing": (
        2, "--like", ["probe", "--checkpoint", "random", "--data", "spoken", "--out", "new"],
    ),
    "probe: checkpoint of another architecture": (
        1, "wide_run", ["probe", "--checkpoint", "wide_run", "--data", "spoken", "--out", "new"],
    ),
    "analyze: missing run": (
        1, "nowhere", ["analyze", "--checkpoint", "nowhere", "--store", "store", "--out", "new"],
    ),
    "analyze: missing store": (
        1, "nowhere", ["analyze", "--checkpoint", "run", "--store", "nowhere", "--out", "new"],
    ),
    "analyze: checkpoint of another architecture": (
        1, "wide_run", ["analyze", "--checkpoint", "wide_run", "--store", "store", "--out", "new"],
    ),
}  # fmt: skip


def one_line(command: list[str], capfd) -> tuple[int, str]:
    """Runs a command; its exit code, and the one line of its own that it leaves on stderr, as the last."""
    code = cli.main(command)
    shown = capfd.readouterr()
    assert "Traceback" not in shown.out + shown.err
    lines = [line for line in shown.err.replace("\r", "\n").splitlines() if line.strip()]
    own = [line for line in lines if line.startswith("jepa-speech ")]
    assert len(own) == 1 and lines[-1] == own[0], shown.err
    assert own[0].startswith(f"jepa-speech {command[0]}: ")
    return code, own[0]


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_one_clear_line(case, place, new, capfd):
    code, words, command = CASES[case]
    found = one_line(command, capfd)
    assert (code, True) == (found[0], words in found[1]), found
    left = [*Path().glob("new.npz"), *Path().glob("new/store.json"), *Path().glob("new/checkpoints/*")]
    assert not left  # what a later command could take for whole


@pytest.fixture
def new():
    """Removes what a case may leave."""
    yield
    shutil.rmtree("new", ignore_errors=True)
    Path("new.npz").unlink(missing_ok=True)


@pytest.fixture
def full_disk():
    """No file may grow past some bytes, as on a full disk (the system then says "File too large")."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_while_preparing(place, new, full_disk, capfd):
    code, line = one_line(["prepare", "--input", "audio", "--out", "new", "--workers", "1"], capfd)
    assert code == 1 and "cannot be written" in line
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    code, line = one_line(["fit", "gmm", "--store", "new", "--out", "new.npz"], capfd)
    assert code == 1 and "unfinished" in line
    assert cli.main(["prepare", "--input", "audio", "--out", "new", "--workers", "1"]) == 0


def test_a_full_disk_wherever_it_shows(monkeypatch, capfd):
    def full(args):
        raise OSError(errno.ENOSPC, "No space left on device", "store/somewhere")

    monkeypatch.setattr("jepa_speech.cli.demo.run", full)
    code, line = one_line(["demo"], capfd)
    assert code == 1 and "store/somewhere: No space left on device; free disk space" in line


@pytest.mark.parametrize(
    "verb",
    [
        ["train", "--workdir", "new"],
        ["plan", "--hours", "10", "--devices", "1"],
        ["bench", "step"],
        ["launch", "slurm", "--workdir", "new", "--nodes", "1", "--dry-run"],
        ["compare", "--objectives", "own", "--input", "audio", "--data", "spoken", "--budget", "2", "--out", "new"],
        ["probe", "--checkpoint", "random", "--data", "spoken", "--out", "new", "--like"],
    ],
    ids=lambda verb: verb[0],
)
def test_a_config_of_ones_own_that_fails_is_named_with_its_line(verb, place, new, capfd):
    Path("mine").mkdir(exist_ok=True)
    for name, text, words in (
        ("imports", "import configs_of_mine", "copy the configs that this one imports"),
        ("typo", "x = 1\ndef get_config(variant='')\n", "mine/typo.py:2: SyntaxError: expected ':'"),
        ("raises", "ANCHORS = {'own': ()}\ndef get_config(variant=''):\n    1 / 0", "mine/raises.py:3: ZeroDivision"),
        ("dict", "ANCHORS = {'own': ()}\ndef get_config(variant=''):\n    return {}", "get_config() returned dict"),
    ):
        Path("mine", f"{name}.py").write_text(text)
        config = [f"mine/{name}.py"] if verb[-1] == "--like" else ["--config", f"mine/{name}.py"]
        code, line = one_line([*verb, *config], capfd)
        assert (code, True) == (2, words in line), line
