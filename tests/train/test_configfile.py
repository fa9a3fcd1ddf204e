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
