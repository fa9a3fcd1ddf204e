"""What `load_pretrained` says of a run's config.json that was changed, damaged or is of another kind."""

import json
import re

import pytest
from support.exported_runs import own_config, small_run

import jepa_speech
from jepa_speech.errors import UserError
from jepa_speech.nn.module import Pure
from jepa_speech.training.run_json import claim_workdir, config_of_a_run


def test_a_config_of_neither_kind(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"neither of a run \(no `objective` in it\) nor of a model of transformers"):
        jepa_speech.load_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("section", "value", "says"),
    [
        ("encoder", {"blocks": 10**9}, "config key encoder.blocks = 1000000000"),
        ("encoder", {"width": 10**9}, "config key encoder.width = 1000000000"),
        ("encoder", {"heads": 0}, "config key encoder.heads = 0"),
        ("encoder", {"name": ["conformer"]}, "config key encoder.name"),
        ("encoder", "x", "config key encoder = 'x'"),
        ("objective", {"name": 3}, "config key objective.name = 3"),
        ("objective", "gmm_jepa", "config key objective = 'gmm_jepa'"),
        ("train", None, "train: the field steps is missing"),
        ("mask", None, "config section mask is missing"),
        ("encoder", None, "config section encoder is missing"),
    ],
)
def test_a_config_that_was_changed_is_one_line(tmp_path, section, value, says):
    config = own_config("logmel")
    config[section] = config[section] | value if isinstance(value, dict) else value
    if value is None:
        del config[section]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=f"^{tmp_path / 'config.json'}: {says}"):
        jepa_speech.load_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"blocks": 1', '"blocks": 3'),
        ('"frontend": "logmel"', '"frontend": "conv"'),
        ('"dropout": 0.1', '"dropout": 0.5'),
        ('"path": ""', '"path": " "'),
        ('"seed": 0', '"seed": 8'),
        ('"seed"', '"sead"'),
        ('"crc"', '"crb"'),
        ('"crc": ', '"crc": 1'),
    ],
)
def test_a_config_of_which_a_character_was_changed_is_not_loaded(tmp_path, monkeypatch, old, new):
    """Although the encoder could be built from most of them."""
    claim_workdir(tmp_path, own_config("logmel"))
    path = tmp_path / "config.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=r"config\.json: damaged \(.*\); restore it; if you edited it") as caught:
        jepa_speech.load_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_config_that_was_edited_on_purpose_opens_with_the_checksum_that_the_message_gives(tmp_path):
    claim_workdir(tmp_path, own_config("logmel"))
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["train"]["steps"] += 1
    path.write_text(json.dumps(config))
    with pytest.raises(UserError) as caught:
        config_of_a_run(path)
    config["crc"] = int(re.search(r'"crc": (\d+)', str(caught.value))[1])
    path.write_text(json.dumps(config))
    assert config_of_a_run(path) == {key: value for key, value in config.items() if key != "crc"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": ...}, "the field seed is missing"),
        ({"seed": "7"}, "seed = '7': expected int"),
        ({"train": {}}, "train: the field steps is missing"),
        ({"train": {"steps": 9, "best": 3}}, "train: best = 3: expected str"),
        ({"data": ["store"]}, "data = ['store']: expected dict"),
        ({"inputs": {"anchor": None}}, "inputs: anchor = None: expected str"),
        ({"init_from": {}}, "init_from = {}: expected str"),
        ({"imported": {"folder": 1}}, "imported: folder = 1: expected str"),
    ],
)
def test_a_key_of_a_config_that_no_objective_reads_is_checked_too(tmp_path, change, says):
    """A run of before checksums; export, evaluate and analyze read these."""
    config = {key: value for key, value in (own_config("logmel") | change).items() if value is not ...}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError) as caught:
        jepa_speech.load_pretrained(tmp_path)
    assert str(caught.value) == f"{tmp_path / 'config.json'}: {says}"


@pytest.mark.parametrize("blocks", [2, 900])
def test_another_number_of_blocks_than_the_checkpoint_has(tmp_path, monkeypatch, blocks):
    """Known before anything is built: that takes time for every block."""
    config = own_config("logmel")
    run = small_run(tmp_path / "run", config)
    config["encoder"]["blocks"] = blocks
    (run / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(Pure, "init", None)
    with pytest.raises(UserError, match=rf"config\.json: encoder\.blocks = {blocks}, and the checkpoint has 1"):
        jepa_speech.load_pretrained(run)
