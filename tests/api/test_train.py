"""`jepa_speech.load_config` and `jepa_speech.train`."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.clustered_audio import babble_store

import jepa_speech
from jepa_speech.errors import UsageError


def test_a_mapping_of_overrides_means_what_the_arguments_mean():
    changes = {
        "data.store": Path("a/store"),
        "data.buckets": (1, 2.5),
        "optim.learning_rate": 1e-5,
        "encoder.remat": True,
    }
    arguments = ["--config.data.store=a/store", "--config.data.buckets=1,2.5", "--config.optim.learning_rate=0.00001"]
    config = jepa_speech.load_config("smoke:hubert", changes)
    assert config == jepa_speech.load_config("smoke:hubert", [*arguments, "--config.encoder.remat=true"])
    assert (config.data.buckets, config.optim.learning_rate, config.encoder.remat) == ((1.0, 2.5), 1e-5, True)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"train.step": 3}, "unknown config key train.step: did you mean train.steps"),
        ({"train.steps": 3.5}, "config key train.steps = '3.5': expected int"),
        ({"train.steps": None}, "config key train.steps = None: use numbers"),
        ("data.store=a", "overrides = 'data.store=a': pass a mapping"),
    ],
)
def test_wrong_overrides(overrides, message):
    with pytest.raises(UsageError, match=message):
        jepa_speech.load_config("smoke", overrides)


def test_a_run_prints_nothing_and_resumes_by_its_config(tmp_path):
    store = babble_store(tmp_path, [0.9, 1.3, 0.8, 1.0]).path
    changes = {"data.store": store, "train.steps": 2, "train.checkpoint_every": 1, "data.buckets": 1.0}
    first = jepa_speech.train("tiny:pure_jepa", tmp_path / "run", overrides=changes)
    assert first["step"] == 2 and first["loss"] > 0 and not first["finished_before"]
    config = jepa_speech.load_config("tiny:pure_jepa", changes)
    again = jepa_speech.train(config, tmp_path / "run", from_step=1)
    assert again == first
    done = jepa_speech.train(config, tmp_path / "run")
    assert done == first | {"finished_before": True, "compiled": 0}
    with pytest.raises(UsageError, match=r"^from_step 7: "):
        jepa_speech.train(config, str(tmp_path / "run"), from_step=7)
    with pytest.raises(UsageError, match=r"^overrides: "):
        jepa_speech.train(config, tmp_path / "run", overrides=changes)
    with pytest.raises(UsageError, match=r"^no store to train on"):
        jepa_speech.train(replace(config, data=replace(config.data, store="")), tmp_path / "run")
