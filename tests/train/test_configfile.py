from dataclasses import dataclass

import pytest

from jepa_speech.errors import UsageError, UserError
from jepa_speech.train.configfile import claim_workdir, load_config

BASE = """
from ml_collections import ConfigDict

def get_config():
    return ConfigDict({"seed": 0, "data": {"store": "", "buckets": (4.0, 8.0), "shuffle": True}, "rate": 0.1})
"""
CHILD = """
from base import get_config as base

def get_config(variant="plain"):
    config = base()
    config.data.store = variant
    return config
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "base.py").write_text(BASE)
    (tmp_path / "child.py").write_text(CHILD)
    return tmp_path


def test_variants_and_typed_overrides(folder):
    changes = ["--config.seed=3", "--config.data.buckets=2,5.5", "--config.data.shuffle=false", "--config.rate=1e-3"]
    config = load_config(f"{folder}/child.py:other", changes)
    assert config.data.store == "other" and config.seed == 3 and config.rate == 1e-3
    assert config.data.buckets == (2.0, 5.5) and config.data.shuffle is False
    assert load_config(f"{folder}/child.py").data.store == "plain"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.data.bucket=4", "unknown config key data.bucket: did you mean data.buckets"),
        ("--config.seed=many", "seed = 'many': expected int"),
        ("--config.data.shuffle=maybe", "expected bool"),
        ("--config.seed", "--config.seed=VALUE"),
        ("--config.data=x", "unknown config key data"),
    ],
)
def test_wrong_overrides(folder, override, message):
    with pytest.raises(UsageError, match=message):
        load_config(f"{folder}/base.py", [override])


def test_a_missing_file_names_those_there(folder):
    with pytest.raises(UsageError, match=r"smok.py: no such config file; found: .*base.py, .*child.py"):
        load_config(f"{folder}/smok.py")


def test_a_run_folder_belongs_to_its_config(folder):
    config = load_config(f"{folder}/child.py")
    claim_workdir(folder / "run", load_config(f"{folder}/base.py"))
    claim_workdir(folder / "run", config)  # nothing was trained yet
    (folder / "run" / "checkpoints" / "20").mkdir(parents=True)
    config.data.store = "moved"
    claim_workdir(folder / "run", config)
    config.rate = 0.2
    with pytest.raises(UserError, match=r"holds a run with rate = 0.1, not 0.2: use another --workdir"):
        claim_workdir(folder / "run", config)


@dataclass(frozen=True)
class Data:
    """A config section with a key that older runs lack."""

    store: str = ""
    weights: tuple[float, ...] = (1.0, 2.0)


def test_a_run_older_than_a_key_goes_on_with_its_default_alone(folder, capsys):
    config = load_config(f"{folder}/base.py")
    claim_workdir(folder / "run", config)
    (folder / "run" / "checkpoints" / "20").mkdir(parents=True)
    before = (folder / "run" / "config.json").read_bytes()
    config.data.weights = (1.0, 2.0)
    with pytest.raises(UserError, match=r"data.weights = None, not \[1.0, 2.0\]"):
        claim_workdir(folder / "run", config)  # of no known section
    claim_workdir(folder / "run", config, {"data": Data}, writes=False)
    assert capsys.readouterr().out == ""
    claim_workdir(folder / "run", config, {"data": Data})
    assert "is older than the config keys data.weights: at their defaults, so it goes on" in capsys.readouterr().out
    assert (folder / "run" / "config.json").read_bytes() == before
    config.data.weights = (1.0, 3.0)
    with pytest.raises(UserError, match=r"data.weights = None, not \[1.0, 3.0\]"):
        claim_workdir(folder / "run", config, {"data": Data})


def test_one_of_several_processes_writes(folder):
    claim_workdir(folder / "run", load_config(f"{folder}/base.py"), writes=False)
    assert not (folder / "run").exists()
