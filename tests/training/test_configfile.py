import json
from dataclasses import dataclass

import pytest

from jepa_speech.errors import UsageError, UserError
from jepa_speech.training.configfile import config_dict
from jepa_speech.training.run_json import claim_workdir, config_of_a_run

BASE = """
from ml_collections import ConfigDict

def get_config():
    config = ConfigDict({"seed": 0, "data": {"store": "", "buckets": (4.0, 8.0), "shuffle": True}, "rate": 0.1})
    config.update(init_from="", encoder={"name": "e"}, objective={"name": "o"})
    config.update({name: {} for name in ("anchor", "mask", "mixing", "optim", "train", "mesh")})
    return config
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
    config = config_dict(f"{folder}/child.py:other", changes)
    assert config.data.store == "other" and config.seed == 3 and config.rate == 1e-3
    assert config.data.buckets == (2.0, 5.5) and config.data.shuffle is False
    assert config_dict(f"{folder}/child.py").data.store == "plain"


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
        config_dict(f"{folder}/base.py", [override])


def test_a_missing_file_names_those_there(folder):
    with pytest.raises(UsageError, match=r"smok.py: no such config file; found: .*base.py, .*child.py"):
        config_dict(f"{folder}/smok.py")


WRONG = {  # what stands in a config of one's own, where the line points, and what it says
    "import bas": ("{path}:1", "No module named 'bas'; bas is neither in {folder} nor installed; copy the configs"),
    "from stores import get_config": (
        "{path}:1",
        "cannot import name 'get_config' from 'stores' (unknown location); stores is neither in {folder} nor installed",
    ),
    "from base import get_confg": ("{path}:1", "cannot import name 'get_confg'"),
    "from below import get_config": ("{folder}/below.py:2", "ZeroDivisionError: division by zero"),
    "from typo import get_config": ("{folder}/typo.py:1", "SyntaxError: "),
    "\n\ndef get_config(:": ("{path}:3", "SyntaxError: "),
    "raise SystemExit(3)": ("{path}:1", "SystemExit: 3"),
    "import numpy\nnumpy.zeros(-1)": ("{path}:2", "ValueError: negative dimensions"),
    "def get_config():\n    return {}['width']": ("{path}:2", "KeyError: 'width'; fix the file"),
    "def get_config():\n    from base import get_config as base\n    return base().encoder.width": (
        "{path}:3",
        "width",
    ),
    "x = 1": ("{path}", "no function get_config() in it"),
    "get_config = 3": ("{path}", "no function get_config() in it"),
    "def get_config(variant):\n    pass": ("{path}", "get_config takes a variant (missing a required argument"),
    "def get_config():\n    return {'seed': 0}": ("{path}", "get_config() returned dict; return a ConfigDict"),
    "def get_config():\n    pass": ("{path}", "get_config() returned NoneType; return a ConfigDict"),
    "from base import *\nbase = get_config\ndef get_config():\n    c = base()\n    del c.mesh\n    return c": (
        "{path}",
        "no section mesh in its config; start from get_config() of configs/base.py",
    ),
    "from base import *\nbase = get_config\ndef get_config():\n    c = base()\n    del c.seed\n    return c": (
        "{path}",
        "no key seed in its config",
    ),
    "from base import *\nbase = get_config\ndef get_config():\n    c = base()\n    c.own = {1, 2}\n    return c": (
        "{path}",
        "config key own = {{1, 2}}: use numbers, text",
    ),
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_config_is_one_line_with_file_and_place(folder, text, tmp_path_factory, monkeypatch):
    path = folder / "mine.py"
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "stores").mkdir()  # Python can import a folder without modules
    monkeypatch.syspath_prepend(elsewhere)
    path.write_text(text)
    (folder / "below.py").write_text("def get_config(): pass\n1 / 0\n")
    (folder / "typo.py").write_text("def get_config() return 1\n")
    where, what = (part.format(path=path, folder=folder) for part in WRONG[text])
    with pytest.raises(UsageError) as caught:
        config_dict(str(path))
    assert str(caught.value).startswith(f"{where}: ") and what in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_no_python(folder):
    (folder / "mine.toml").write_text("seed = 0")
    with pytest.raises(UsageError, match=r"mine.toml: a config is a Python file"):
        config_dict(f"{folder}/mine.toml")
    (folder / "mine.py").write_bytes(b"x = '\xff\x00'")
    with pytest.raises(UsageError, match=r"mine.py:?\d*: "):
        config_dict(f"{folder}/mine.py")


def test_a_run_folder_belongs_to_its_config(folder):
    config = config_dict(f"{folder}/child.py")
    claim_workdir(folder / "run", config_dict(f"{folder}/base.py"))
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


def test_a_run_older_than_a_key_goes_on_with_its_default_alone(folder):
    config = config_dict(f"{folder}/base.py")
    claim_workdir(folder / "run", config)
    (folder / "run" / "checkpoints" / "20").mkdir(parents=True)
    before = (folder / "run" / "config.json").read_bytes()
    config.data.weights = (1.0, 2.0)
    with pytest.raises(UserError, match=r"data.weights = None, not \[1.0, 2.0\]"):
        claim_workdir(folder / "run", config)  # of no known section
    line = f"{folder / 'run'} is older than the config keys data.weights: the run continues with their defaults"
    assert claim_workdir(folder / "run", config, {"data": Data}, writes=False) == line
    assert claim_workdir(folder / "run", config, {"data": Data}) == line
    assert (folder / "run" / "config.json").read_bytes() == before
    config.data.weights = (1.0, 3.0)
    with pytest.raises(UserError, match=r"data.weights = None, not \[1.0, 3.0\]"):
        claim_workdir(folder / "run", config, {"data": Data})


@pytest.mark.parametrize(
    "lacking", [["inputs.heldout"], ["init_from"], ["inputs.anchor", "inputs.heldout", "init_from"]]
)
def test_a_run_older_than_a_key_outside_sections_goes_on(folder, lacking):
    config = config_dict(f"{folder}/base.py")
    config.inputs = {"store": "abc", "heldout": "", "anchor": ""}
    claim_workdir(folder / "run", config)
    (folder / "run" / "checkpoints" / "20").mkdir(parents=True)
    old = config_of_a_run(folder / "run" / "config.json")
    for key in lacking:
        section, _, name = key.rpartition(".")
        del (old[section] if section else old)[name]
    (folder / "run" / "config.json").write_text(json.dumps(old))
    line = claim_workdir(folder / "run", config)
    assert f"is older than the config keys {', '.join(sorted(lacking))}: the run continues" in line
    section, _, name = lacking[0].rpartition(".")
    (config[section] if section else config)[name] = "something"
    with pytest.raises(UserError, match=rf"{lacking[0]} = None, not 'something'"):
        claim_workdir(folder / "run", config)


def test_a_config_older_than_a_key_goes_on_too(folder):
    config = config_dict(f"{folder}/base.py")
    config.data.weights = (1.0, 2.0)
    claim_workdir(folder / "run", config)
    (folder / "run" / "checkpoints" / "20").mkdir(parents=True)
    del config.data["weights"]
    claim_workdir(folder / "run", config, {"data": Data})
    with pytest.raises(UserError, match=r"data.weights = \[1.0, 2.0\], not None"):
        claim_workdir(folder / "run", config)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (None, "config.json is missing, so the config of the checkpoints beside it is unknown; restore it, or"),
        (b"", "config.json: not valid JSON"),
        (b'{"seed": 0, "da', "config.json: not valid JSON"),
        (b'{"seed": \xb0}', "config.json: not valid JSON"),
        (b"[1]", "config.json: a JSON object was expected, not list"),
        (b'{"seed": 1}', "= None, not|seed = 1, not 0"),
    ],
)
@pytest.mark.parametrize("writes", [True, False])
def test_checkpoints_without_a_whole_config_are_refused(folder, damage, message, writes):
    config = config_dict(f"{folder}/base.py")
    claim_workdir(folder / "run", config)
    (folder / "run" / "checkpoints" / "20").mkdir(parents=True)
    path = folder / "run" / "config.json"
    path.unlink() if damage is None else path.write_bytes(damage)
    with pytest.raises(UserError, match=message) as caught:
        claim_workdir(folder / "run", config, writes=writes)
    assert "use another --workdir" in str(caught.value) and "\n" not in str(caught.value)
    assert not path.exists() if damage is None else path.read_bytes() == damage


@pytest.mark.parametrize(
    "change",
    [
        (b'"store": "x"', b'"store": "y"'),  # a key that may differ
        (b"0.1", b"0.3"),
        (b"8.0", b"9.0"),
        (b"true", b"null"),
        (b'"crc": ', b'"crc": 1'),
    ],
)
def test_a_config_with_a_changed_value_is_refused(folder, change):
    """It is still JSON, and may still agree with the command in all that `train` compares."""
    config = config_dict(f"{folder}/child.py:x")
    claim_workdir(folder / "run", config)
    (folder / "run" / "checkpoints" / "20").mkdir(parents=True)
    path = folder / "run" / "config.json"
    damaged = path.read_bytes().replace(*change)
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    with pytest.raises(
        UserError, match=r"config.json: damaged \(its fields do not match its crc\); restore it, or use"
    ):
        claim_workdir(folder / "run", config)
    assert path.read_bytes() == damaged


def test_one_of_several_processes_writes(folder):
    claim_workdir(folder / "run", config_dict(f"{folder}/base.py"), writes=False)
    assert not (folder / "run").exists()
