"""What `jepa_speech.inspect` says of paths that are no stores."""

import shutil

import numpy as np
import pytest
from support.audio_files import write_tones
from support.exported_runs import own_config, small_run
from support.public_checkpoints import TINY, write_folder
from support.random_anchors import make_gmm

import jepa_speech
from jepa_speech.errors import UserError


def test_what_is_not_a_store_is_named(tmp_path, monkeypatch):
    """One line each: what it is, and what to do with it."""
    monkeypatch.chdir(tmp_path)
    small_run(tmp_path / "run", own_config("logmel"))
    shutil.copytree("run", "fresh", ignore=shutil.ignore_patterns("checkpoints"))
    write_folder(tmp_path / "hf", TINY, {"a": np.zeros(1, np.float32)})
    make_gmm(8, 80, features="logmel").save(tmp_path / "a.npz")
    np.savez("features.npz", a=np.zeros(3))
    write_tones(tmp_path / "audio", 2)
    for name in ("m/x.jsonl", "m/deep/y.jsonl", "s3prl/hubconf.py", "s3prl/model/config.json", "hlo/export.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    labels = tmp_path / "store" / "labels" / "abc"
    labels.mkdir(parents=True)
    (labels / "meta.json").write_text('{"anchor": "0123456789abcdef", "components": 16, "frames": 7}')
    (labels / "blocks.bin").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    for name, message in {
        "run": "a run folder: objective gmm_jepa, step 0 of",
        "fresh": "a run folder: objective gmm_jepa, no checkpoint yet of",
        "run/checkpoints": "a checkpoint of the run run: run `jepa-speech inspect run`",
        "run/checkpoints/0": "a checkpoint of the run run: run `jepa-speech inspect run`",
        "hf": "a model folder of transformers (hubert): make a run of it with `jepa-speech import hf hf --out RUN`",
        "hf/model.safetensors": "the weights of a model",
        "s3prl": "an upstream folder for S3PRL",
        "hlo": "a StableHLO program",
        "a.npz": "an anchor of 8 components in logmel: use it with `jepa-speech label",
        "features.npz": "an .npz file that is not an anchor",
        "m": "a folder of 2 manifests: make a store of it with `jepa-speech prepare --input m/NAME.jsonl",
        "m/x.jsonl": "an input: make a store of it",
        "audio": "a folder of 2 recordings: make a store of it with `jepa-speech prepare --input audio",
        "audio/tone000.wav": "an input: make a store of it",
        "store/labels/abc": "the labels of anchor 0123456789ab: 16 components, 7 frames; run `jepa-speech",
    }.items():
        with pytest.raises(UserError) as caught:
            jepa_speech.inspect(name)
        assert str(caught.value).startswith(f"{name}: not a store but {message}")
    with pytest.raises(UserError, match="not a complete store"):
        jepa_speech.inspect("empty")
