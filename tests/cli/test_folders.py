"""A folder of transformers in place of a checkpoint: the results of its imported run, or one line."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from support.clustered_audio import babble, babble_store
from support.labelled_corpus import write_spoken
from support.public_checkpoints import TINY, toy_arrays, write_folder

from jepa_speech.api.feature_source import source
from jepa_speech.cli import main
from jepa_speech.files import read_json
from jepa_speech.probing import evaluate, pooled
from jepa_speech.probing.linear import Recipe


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """hf, its run, a store, a labelled corpus and a wave, in one folder."""
    place = tmp_path_factory.mktemp("folders")
    write_folder(place / "hf", TINY, toy_arrays(TINY, "hubert."))
    assert main(["import", "hf", str(place / "hf"), "--out", str(place / "run")]) == 0
    wider = TINY | {"hidden_size": 32}
    write_folder(place / "other", wider, toy_arrays(wider))
    babble_store(place / "data", [0.9, 0.7, 0.8])
    write_spoken(place / "DIR")
    soundfile.write(place / "a.wav", babble(0.6), 16_000)
    return place


@pytest.fixture(autouse=True)
def there(places, monkeypatch):
    monkeypatch.chdir(places)
    short = Recipe(learning_rates=(3e-2,), decays=(0.0,), steps=20, batch=64)
    monkeypatch.setitem(evaluate.TASKS, "speaker", replace(pooled.SPEAKER, RECIPE=short))


def test_embed_gives_what_its_run_gives_and_a_layer_is_the_same_anchor(tmp_path):
    for name in ("hf", "run"):
        assert main(["embed", "a.wav", "--checkpoint", name, "--out", str(tmp_path / f"{name}.npz")]) == 0
    ours, theirs = (np.load(tmp_path / f"{name}.npz")["a.wav"] for name in ("run", "hf"))
    np.testing.assert_array_equal(ours, theirs)
    hf, run, other = (source(f"layer:{i}", name).fingerprint for i, name in ((1, "hf"), (1, "run"), (2, "other")))
    assert hf == run != other  # so an anchor that was fitted to a layer of the one labels with the other


def test_probe_takes_it(tmp_path):
    line = ["probe", "--checkpoint", "hf", "--data", "DIR", "--tasks", "speaker", "--out", str(tmp_path)]
    assert main(line) == 0
    assert set(read_json(tmp_path / "hf.json")["tasks"]["speaker"]["heads"]) >= {"layer 0", "layer 1", "layer 2"}


def test_analyze_shows_what_it_can(tmp_path, capsys):
    assert main(["analyze", "--checkpoint", "hf", "--store", "data/store", "--out", str(tmp_path)]) == 0
    assert "no head over an anchor's clusters (only its encoder was imported)" in capsys.readouterr().out
    assert len(read_json(tmp_path / "analysis.json")["store"]["effective_rank"]) == 3


def test_an_export_of_it_is_itself(tmp_path):
    assert main(["export", "hf", "hf", "--out", str(tmp_path / "again")]) == 0
    assert main(["embed", "a.wav", "--checkpoint", str(tmp_path / "again"), "--out", str(tmp_path / "again.npz")]) == 0
    assert main(["embed", "a.wav", "--checkpoint", "hf", "--out", str(tmp_path / "first.npz")]) == 0
    first, again = (np.load(tmp_path / f"{name}.npz")["a.wav"] for name in ("first", "again"))
    np.testing.assert_array_equal(first, again)


LINES = {
    "embed": ["embed", "a.wav", "--out", "no.npz"],
    "probe": ["probe", "--data", "DIR", "--out", "no"],
    "analyze": ["analyze", "--store", "data/store", "--out", "no"],
}


@pytest.mark.parametrize("verb", LINES)
def test_a_pickle_is_refused_with_its_conversion_by_every_verb(verb, capsys, tmp_path):
    folder = shutil.copytree("hf", tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert main([*LINES[verb], "--checkpoint", str(folder)]) == 1
    error = capsys.readouterr().err
    assert "a pickle, which is not read here; convert it" in error and error.count("\n") == 1


@pytest.mark.parametrize("verb", LINES)
def test_a_model_of_another_sample_rate_is_refused_by_every_verb(verb, capsys, tmp_path):
    folder = shutil.copytree("hf", tmp_path / "narrow")
    (folder / "preprocessor_config.json").write_text('{"sampling_rate": 8000}')
    assert main([*LINES[verb], "--checkpoint", str(folder)]) == 1
    assert "narrow/preprocessor_config.json: 'sampling_rate' is 8000" in capsys.readouterr().err


def test_it_has_no_loss_and_writes_no_texts(capsys):
    assert main(["evaluate", "--checkpoint", "hf", "--store", "data/store"]) == 1
    assert "hf: an imported encoder" in capsys.readouterr().err
    assert main(["transcribe", "hf", "a.wav"]) == 1
    assert "hubert writes no texts" in capsys.readouterr().err
