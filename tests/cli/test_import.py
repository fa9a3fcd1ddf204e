import json
from pathlib import Path

import jax
import numpy as np
import pytest
from support import toys
from support.clustered_audio import babble_store
from support.exported_runs import own_config, small_run
from support.public_checkpoints import TINY, toy_arrays, write_folder

import jepa_speech
from jepa_speech.cli import main
from jepa_speech.features.grid import frames
from jepa_speech.huggingface.imported import read_imported
from jepa_speech.training.checkpoint import read_weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    arrays = toy_arrays(TINY, "hubert.") | {"lm_head.weight": np.zeros((4, 16), np.float32)}
    return write_folder(tmp_path_factory.mktemp("hf") / "tiny", TINY, arrays)


def test_an_imported_run_is_read_as_any_other(folder, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["import", "hf", str(folder), "--out", str(run), "--json", str(tmp_path / "out.json")]) == 0
    said = json.loads((tmp_path / "out.json").read_text())
    assert (said["objective"], said["fresh"], said["not_taken"]) == ("hubert", ["head"], ["lm_head.weight"])
    shown = capsys.readouterr().out
    assert "fresh        head (not in the checkpoint: train before use)\n" in shown
    assert "not taken    lm_head.weight" in shown
    assert json.loads((run / "config.json").read_text())["imported"]["model_type"] == "hubert"

    model = jepa_speech.load_pretrained(run)
    wave = np.random.default_rng(0).normal(0, 0.1, 8_000).astype(np.float32)
    layers = model.represent(wave, 16_000).layers
    assert [x.shape for x in layers] == [(frames(8_000), 16)] * 3
    assert np.isfinite(layers[-1]).all()

    assert main(["import", "hf", str(folder), "--out", str(run)]) == 1  # a second time
    assert "imported there before" in capsys.readouterr().err


def test_an_export_of_our_own_encoder_is_imported_and_what_is_lost_is_said(tmp_path, capsys):
    config = own_config("logmel")
    run = small_run(tmp_path / "run", config)
    assert main(["export", "hf", str(run), "--out", str(tmp_path / "hf")]) == 0
    capsys.readouterr()
    assert main(["import", "hf", str(tmp_path / "hf"), "--out", str(tmp_path / "again")]) == 0
    out = capsys.readouterr().out
    assert "lost         the cluster head, λ and the teacher" in out and "this run has λ = 0 (pure JEPA)" in out


ODD = {"layer_norm_eps": 1e-3, "num_conv_pos_embeddings": 3}
KINDS = {  # objective, heads that the weights lack, config; of wav2vec2 see test_training_goes_on_from_an_imported_run
    "hubert": ("hubert", {"head"}, ODD | {"conv_pos_batch_norm": True, "feat_proj_layer_norm": False}),
    "wavlm": ("hubert", {"head"}, ODD | {"num_buckets": 16, "max_bucket_distance": 20}),
    "unispeech": ("wav2vec2", {"final_proj", "project_q", "quantizer"}, ODD),
    "unispeech-sat": ("hubert", {"head"}, ODD | {"do_stable_layer_norm": False, "feat_extract_norm": "group"}),
    "data2vec-audio": ("data2vec", {"head"}, ODD | {"conv_pos_kernel_size": 5}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_training_goes_on_from_every_model_type(kind, tmp_path, capsys):
    """The run holds what the folder gives, without the embedding that the weights lack; its loss has gradients."""
    name, fresh, change = KINDS[kind]
    config = TINY | {"model_type": kind, "num_codevectors_per_group": 4, "codevector_dim": 8} | change
    arrays = toy_arrays(config, "model.")
    del arrays["model.masked_spec_embed"]
    folder = write_folder(tmp_path / "hf", config, arrays)
    assert main(["import", "hf", str(folder), "--out", str(tmp_path / "run")]) == 0
    line = f"{folder}: its weights lack masked_spec_embed, initialised at random; only training with masks uses it\n"
    assert capsys.readouterr().err == line
    model = jepa_speech.load_pretrained(tmp_path / "run")
    assert capsys.readouterr().err == ""  # the run has the vector
    assert model.config.objective.name == name and model.params.keys() == fresh | {"encoder"}
    same = read_imported(folder)[1].encoder
    assert capsys.readouterr().err == line
    jax.tree.map(np.testing.assert_array_equal, model.params["encoder"], same)
    if "teacher" in model.aux_state:
        jax.tree.map(np.testing.assert_array_equal, model.aux_state["teacher"], same["blocks"])

    def loss(params):
        terms, _ = model.objective.loss(params, model.aux_state, batch, jax.random.key(0), 0)
        return sum((term.scale * term.of(term.total / term.weight)).sum() for term in terms.values())

    batch = toys.toy_batch(rows=2, seconds=0.5, anchor=toys.toy_anchor())
    gradients = jax.eval_shape(jax.grad(loss), model.params)
    assert jax.tree.structure(gradients) == jax.tree.structure(model.params)


def test_arrays_of_the_encoder_that_are_not_used_are_named(tmp_path, capsys):
    arrays = toy_arrays(TINY, "hubert.")
    arrays |= {f"hubert.encoder.layers.{i}.adapter.weight": np.zeros(3, np.float32) for i in range(2)}
    arrays |= {"feature_extractor.weight": np.zeros((4, 16), np.float32)}  # a head of transformers' XVector classes
    arrays |= {"hubert.encoder.position_ids": np.arange(4)}
    read_imported(folder := write_folder(tmp_path / "hf", TINY, arrays))
    assert capsys.readouterr().err == (
        f"{folder}: 2 arrays of its weights not used, because a hubert encoder of this config.json has none: "
        "encoder.layers.0.adapter.weight, encoder.layers.1.adapter.weight\n"
    )


def test_training_goes_on_from_an_imported_run(tmp_path, capsys):
    """Every weight of the encoder is taken, the heads that the checkpoint lacks are fresh, and the log says which."""
    config = TINY | {"model_type": "wav2vec2", "hidden_dropout": 0.0}
    write_folder(tmp_path / "hf", config, toy_arrays(config, "wav2vec2."))
    assert main(["import", "hf", str(tmp_path / "hf"), "--out", str(tmp_path / "imported")]) == 0
    store = babble_store(tmp_path / "data", [1.1, 1.2, 1.1])
    published = Path(__file__).parents[2] / "configs" / "wav2vec2.py"
    small = {
        "init_from": tmp_path / "imported",
        "data.store": store.path,
        "data.buckets": "1.0",
        "data.batch_seconds": 2,
        "encoder.channels": 8,
        "encoder.width": 16,
        "encoder.blocks": 2,
        "encoder.heads": 2,
        "encoder.hidden": 32,
        "encoder.position_kernel": 8,
        "encoder.position_groups": 4,
        "encoder.position_depth": 1,
        "objective.projection": 8,
        "objective.distractors": 4,
        "quantizer.codes": 4,
        "quantizer.width": 8,
        "optim.learning_rate": 1e-9,  # what was taken is still to be seen after the step
        "train.steps": 1,
    }
    overrides = [f"--config.{key}={value}" for key, value in small.items()]
    run = tmp_path / "run"
    assert main(["train", "--config", f"{published}:large", "--workdir", str(run), *overrides]) == 0
    _, before = read_weights(tmp_path / "imported")
    _, after = read_weights(run)
    encoder = [name for name in before if name.startswith("params/encoder/")]
    assert encoder
    for name in encoder:
        np.testing.assert_allclose(after[name], before[name], atol=1e-7, err_msg=name)
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    (event,) = [event for event in events if event["event"] == "init_from"]
    assert set(encoder) <= set(event["taken"])
    heads = sorted({name.split("/")[1] for name in event["fresh"]})
    assert heads == ["final_proj", "project_q", "quantizer"]
    assert f"{len(event['taken'])} arrays taken" in capsys.readouterr().err


def test_heads_of_other_sizes_than_the_config_tells_are_refused(tmp_path, capsys):
    config = TINY | {"model_type": "wav2vec2", "codevector_dim": 10, "proj_codevector_dim": 12}
    heads = {"project_q.weight": np.zeros((12, 11), np.float32), "project_q.bias": np.zeros(12, np.float32)}
    write_folder(tmp_path / "hf", config, toy_arrays(config, "wav2vec2.") | heads)
    assert main(["import", "hf", str(tmp_path / "hf"), "--out", str(tmp_path / "run")]) == 1
    assert "the sizes of its heads do not match its config.json" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_none_is_one_line(tmp_path, capsys):
    assert main(["import", "hf", str(tmp_path), "--out", str(tmp_path / "run")]) == 1
    assert "no config.json in it" in capsys.readouterr().err
