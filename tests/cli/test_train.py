"""The verb train: one small run, and one line for every wrong input before the first step."""

import json
import shutil
from pathlib import Path

import pytest
from support.clustered_audio import babble_store
from support.toys import toy_anchor

from jepa_speech.cli import main
from jepa_speech.store.checksums import sealed

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = {"train.steps": "4", "train.checkpoint_every": "2", "data.buckets": "1.0"}  # one program to compile


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store of six recordings with labels of an anchor of 8 components."""
    folder = tmp_path_factory.mktemp("train")
    store = babble_store(folder, [0.4, 0.9, 0.3, 1.3, 0.45, 0.025])  # one of a single frame
    toy_anchor().save(folder / "gmm.npz")
    arguments = ["--store", str(store.path), "--anchor", str(folder / "gmm.npz"), "--top-k", "4"]
    assert main(["label", *arguments]) == 0
    return folder


def train(made: Path, workdir: Path, *flags: str, config: str = str(CONFIGS / "tiny.py"), **changes: str) -> int:
    keys = SMALL | {"data.store": str(made / "store"), "anchor.path": str(made / "gmm.npz")}
    keys |= {key.replace("__", "."): value for key, value in changes.items()}
    overrides = [f"--config.{key}={value}" for key, value in keys.items()]
    return main(["train", "--config", config, "--workdir", str(workdir), *flags, *overrides])


def test_a_run_from_store_to_checkpoint(made, tmp_path, capsys):
    run = tmp_path / "run"
    assert train(made, run) == 0
    assert "tiny.py: objective gmm_jepa, encoder transformer, " in capsys.readouterr().err
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert {"loss", "jepa", "cluster", "lambda", "grad_norm", "effective_rank"} <= rows[-1].keys()
    config = json.loads((run / "config.json").read_text())
    assert config["anchor"] | {"path": ""} == {
        "path": "",
        "source": "stored",
        "components": 8,
        "features": "logmel",
        "normalize": "level",
        "top_k": 4,
    }
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"2", "4"}
    assert list((run / "tensorboard").iterdir())
    assert train(made, run) == 0
    assert capsys.readouterr().out == f"{run} is finished: step 4; nothing to do\n"
    # As an earlier version wrote it.
    for key in ("data.heldout", "data.min_seconds", "init_from", "inputs.heldout", "crc"):
        section, _, name = key.rpartition(".")
        del (config[section] if section else config)[name]
    (run / "config.json").write_text(json.dumps(config))
    assert train(made, run) == 0 and "is finished: step 4" in capsys.readouterr().out
    assert train(made, run, "--from-step", "3") == 2
    assert "from_step 3: " in (said := capsys.readouterr().err) and "no such checkpoint; there are 2, 4" in said
    assert train(made, run, encoder__width="32") == 1
    shown = capsys.readouterr()
    assert "with encoder.width = 16, not 32: use another --workdir" in shown.err and shown.out == ""


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"config": "configs/smok.py"}, 2, "no such config file; found: configs/base.py"),
        ({"config": f"{CONFIGS / 'smoke.py'}:nonsense"}, 2, "unknown variant 'nonsense'"),
        ({"optim__learning_rat": "1"}, 2, "unknown config key optim.learning_rat: did you mean optim.learning_rate"),
        ({"train__steps": "0"}, 2, "train.steps = 0: at least 1 needed"),
        ({"data__store": ""}, 2, "no store to train on: pass --config.data.store=STORE"),
        ({"data__store": "nowhere"}, 1, "nowhere: not a complete store"),
        ({"data__buckets": "0.01"}, 2, "data.buckets"),
        ({"anchor__path": "none.npz"}, 1, "none.npz: no such anchor"),
        ({"anchor__path": ""}, 2, "objective.lambda_start > 0 needs an anchor"),
        ({"anchor__features": "mfcc"}, 2, "anchor.features = 'mfcc', but"),
        ({"anchor__components": "16"}, 2, "anchor.components = 16, but"),
        ({"anchor__top_k": "9"}, 2, "anchor.top_k = 9, but"),
        ({"objective__name": "gmm_jep"}, 2, "objective.name = 'gmm_jep': known are"),
        ({"mesh__fsdp": "3"}, 2, "mesh.fsdp = 3 does not make up the 4 devices"),
        ({"init_from": "nowhere"}, 1, "nowhere: not a run folder"),
    ],
)
def test_wrong_input_is_one_line(made, tmp_path, capsys, changes, code, message):
    """And nothing else: no header of a run that does not begin."""
    assert train(made, tmp_path / "run", **changes) == code
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.err.count("\n") == 1 and shown.out == ""


def test_a_weight_that_may_have_been_meant_as_a_part_of_the_name(made, tmp_path, capsys):
    store = made / "store"
    assert train(made, tmp_path / "run", data__store=f"{store}:2", mesh__fsdp="3") == 2
    first, _ = capsys.readouterr().err.splitlines()
    assert first == f"data.store = '{store}:2' is read as the path {store} with weight 2"
    assert train(made, tmp_path / "run", data__store=f'"{store}":2', mesh__fsdp="3") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_labels_of_another_anchor_are_refused(made, tmp_path, capsys):
    toy_anchor(seed=1).save(tmp_path / "other.npz")
    assert train(made, tmp_path / "run", anchor__path=str(tmp_path / "other.npz")) == 1
    assert "no labels of anchor" in capsys.readouterr().err


def test_labels_of_another_number_of_components_are_refused(made, tmp_path, capsys):
    shutil.copytree(made / "store", tmp_path / "store")
    (path,) = (tmp_path / "store" / "labels").glob("*/meta.json")
    meta = json.loads(path.read_text())
    path.write_text(json.dumps(sealed({key: meta[key] for key in meta if key != "crc"} | {"components": 9})))
    assert train(made, tmp_path / "run", data__store=str(tmp_path / "store")) == 1
    told = capsys.readouterr().err
    assert "labels of 9 components, and the anchor has 8" in told and told.count("\n") == 1
