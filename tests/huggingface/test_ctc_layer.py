"""Folders of transformers with a CTC layer: their vocabulary, what is wrong with one, and what a run makes of them."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile
from support.audio_files import tone
from support.exported_runs import ctc_config, ctc_run, small_config
from support.toys import CONFIGS, build

import jepa_speech
from jepa_speech.cli import main
from jepa_speech.errors import UserError
from jepa_speech.huggingface.safetensors import read_safetensors, write_safetensors
from jepa_speech.huggingface.tokenizer import read_tokens
from jepa_speech.pretrained.init_from import weights_of
from jepa_speech.text.tokens import Tokens
from jepa_speech.training.configfile import config_dict
from jepa_speech.training.run_json import config_of_a_run

LETTERS = {"a": 0, "|": 1, "[UNK]": 2, "[PAD]": 3}
NAMES = {"pad_token": "[PAD]", "unk_token": "[UNK]"}


def written(folder: Path, **files: object) -> Path:
    """A folder with tokenizer files; a string is written as it is."""
    for name, value in files.items():
        (folder / f"{name}.json").write_text(value if isinstance(value, str) else json.dumps(value))
    return folder


@pytest.mark.parametrize(
    ("files", "classes", "tokens"),
    [
        ({"tokenizer_config": NAMES | {"do_lower_case": None, "target_lang": None}}, 4, [*LETTERS]),
        ({"tokenizer_config": NAMES}, 8, ["a", "|", "[UNK]", "[PAD]", "<s>", "</s>", "", ""]),
        ({"tokenizer_config": NAMES | {"bos_token": None, "eos_token": None}}, 5, ["a", "|", "[UNK]", "[PAD]", ""]),
        ({"special_tokens_map": NAMES, "added_tokens": {"<s>": 5, "</s>": 4}}, 6, [*LETTERS, "</s>", "<s>"]),
        ({"special_tokens_map": NAMES, "added_tokens": {"<s>": 4, "</s>": 5}}, 4, [*LETTERS]),  # never written
        ({"special_tokens_map": {name: {"content": x, "lstrip": False} for name, x in NAMES.items()}}, 4, [*LETTERS]),
        ({"tokenizer_config": NAMES | {"target_lang": "x"}, "vocab": {"y": {"b": 0}, "x": LETTERS}}, 4, [*LETTERS]),
        (
            {
                "tokenizer_config": NAMES | {"added_tokens_decoder": {"4": {"content": "<q>"}}},
                "special_tokens_map": {"pad_token": "a"},  # too old to count beside added_tokens_decoder
            },
            5,
            [*LETTERS, "<q>"],
        ),
    ],
)
def test_every_class_has_the_token_that_transformers_gives_it(files, classes, tokens, tmp_path):
    found = read_tokens(written(tmp_path, **({"vocab": LETTERS} | files)), classes)
    assert found == Tokens(tuple(tokens), "[PAD]", "[UNK]", "|")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"vocab": {"a": 0, "b": 0}}, r"vocab.json: 'a' and 'b' both have the number 0: "),
        ({"vocab": LETTERS | {"b": 4}}, r"vocab.json: the number of 'b' is 4, and the CTC layer \(lm_head\) has 4 cl"),
        ({"vocab": LETTERS | {"b": -1}}, r"vocab.json: the number of 'b' = -1: expected at least 0"),
        ({"vocab": LETTERS | {"b": "4"}}, r"vocab.json: the number of 'b' = '4': expected int"),
        ({"vocab": LETTERS | {"b": 1.0}}, r"vocab.json: the number of 'b' = 1.0: expected int"),
        ({"vocab": {"0": "a", "1": "b"}}, r"vocab.json: the number of '0' = 'a': expected int"),
        ({"vocab": ["a", "b"]}, r"vocab.json: a JSON object was expected, not list"),
        ({"vocab": {}}, r"vocab.json: it is empty"),
        ({"vocab": {"": 0}}, r"vocab.json: an empty token"),
        ({"vocab": '{"a": 0, "a": 1}'}, r"vocab.json: .*'a'"),
        ({"vocab": "{"}, r"vocab.json: not valid JSON"),
        ({"vocab": LETTERS, "tokenizer_config": {}}, r"vocab.json: it lacks CTC's blank, pad_token = '<pad>'"),
        ({"vocab": LETTERS, "tokenizer_config": {"pad_token": None}}, r"lacks CTC's blank, pad_token = ''"),
        ({"vocab": LETTERS, "tokenizer_config": NAMES | {"pad_token": 5}}, r"config.json: pad_token = 5: expected str"),
        (
            {"vocab": {"x": LETTERS, "y": LETTERS}},
            r"each language \('x', 'y'\), and target_lang = None",
        ),
        ({"vocab": {"x": LETTERS}, "tokenizer_config": {"target_lang": ["x"]}}, r"target_lang = \['x'\]"),
        ({"vocab": LETTERS, "tokenizer_config": NAMES | {"do_lower_case": 1}}, r"do_lower_case = 1: expected bool"),
        (
            {"vocab": LETTERS, "tokenizer_config": NAMES | {"tokenizer_class": "Wav2Vec2PhonemeCTCTokenizer"}},
            r"tokenizer_class = 'Wav2Vec2PhonemeCTCTokenizer': only Wav2Vec2CTCTokenizer can be read",
        ),
        (
            {"vocab": LETTERS, "tokenizer_config": NAMES | {"added_tokens_decoder": {"x": "<q>"}}},
            r"added_tokens_decoder: 'x' is not the number of a token",
        ),
        ({"vocab": LETTERS, "added_tokens": {"<s>": True}}, r"added_tokens.json: '<s>' = True: expected int"),
        ({}, r"vocab.json: no such file"),
    ],
)
def test_a_wrong_vocabulary_is_one_line(files, message, tmp_path):
    with pytest.raises(UserError, match=message) as error:
        read_tokens(written(tmp_path, **({"tokenizer_config": NAMES} | files)), 4)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run with a CTC layer of random weights, and what `export hf` writes of it."""
    folder = tmp_path_factory.mktemp("ctc")
    ctc_run(folder / "run", ctc_config(small_config("wav2vec2:large")))
    assert main(["export", "hf", str(folder / "run"), "--out", str(folder / "hf")]) == 0
    return folder / "run"


def test_a_folder_transcribes_a_table_of_common_voice_as_it_is_published(run, tmp_path, capsys):
    (tmp_path / "clips").mkdir()
    soundfile.write(tmp_path / "clips" / "common_voice_en_1.mp3", tone(0.5, rate=32_000), 32_000)
    (tmp_path / "test.tsv").write_text("client_id\tpath\tsentence\nab\tcommon_voice_en_1.mp3\tHello there,\n")
    command = ["transcribe", str(run.with_name("hf")), "--manifest", str(tmp_path / "test.tsv")]
    assert main([*command, "--out", str(tmp_path / "texts.jsonl")]) == 0
    row = json.loads((tmp_path / "texts.jsonl").read_text())
    assert row["text"] == "hello there," and row["hypothesis"]
    assert "WER " in capsys.readouterr().out


def test_an_export_of_a_ctc_run_says_that_it_lacks_the_optimizer_alone(run, tmp_path, capsys):
    """It has no heads of pretraining, teacher or λ to lose, and its layer goes along."""
    assert main(["export", "hf", str(run), "--out", str(tmp_path)]) == 0
    said, card = capsys.readouterr().err, (tmp_path / "README.md").read_text()
    assert said.endswith(f"{tmp_path} lacks the optimizer's state: to continue training, keep {run}\n")
    assert "this folder lacks the optimizer's state" in card
    assert not any(word in said + card for word in ("teacher", "λ", "pretraining"))


def test_folder_and_imported_run_write_what_the_run_writes(run, tmp_path, capsys):
    """Also with another token in the folder, which the imported run keeps."""
    wave = np.random.default_rng(0).normal(0, 0.1, 8_000).astype(np.float32)
    ours = jepa_speech.load_pretrained(run)
    text = ours.transcribe(wave, 16_000)
    assert len(set(text)) > 3
    folder = Path(shutil.copytree(run.parent / "hf", tmp_path / "hf"))
    names = json.loads((folder / "vocab.json").read_text())
    names["A"] = names.pop("a")
    written(folder, vocab=names)
    assert main(["import", "hf", str(folder), "--out", str(tmp_path / "run")]) == 0
    assert f"configs/finetune_ctc.py:{tmp_path / 'run'}` trains on with this vocabulary" in capsys.readouterr().out
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype="FLOAT")
    assert main(["transcribe", str(folder), str(tmp_path / "a.wav")]) == 0
    assert capsys.readouterr().out.rstrip("\n").partition("\t")[2] == text.replace("a", "A")
    theirs = jepa_speech.load_pretrained(tmp_path / "run")
    assert theirs.objective.vocabulary.tokens.index("A") == names["A"]
    jax.tree.map(np.testing.assert_array_equal, theirs.params, ours.params)

    # Fine-tuning keeps vocabulary and layer of a run, and initialises a layer on a folder.
    theirs, fresh = (config_dict(f"{CONFIGS}/finetune_ctc.py:{place}") for place in (tmp_path / "run", folder))
    assert theirs.init_from == str(tmp_path / "run")
    assert theirs.objective.freeze_steps == 0 < fresh.objective.freeze_steps
    tokens = build(theirs).vocabulary
    assert tokens.spell("a b") == [names[token] for token in "A|b"]
    assert "vocabulary" not in fresh
    assert "params/head/kernel" in weights_of(str(tmp_path / "run"), tokens)[1]
    other = dataclasses.replace(tokens, tokens=(*tokens.tokens[:-1], "z"))  # as many, with another meaning
    assert "params/head/kernel" not in weights_of(str(tmp_path / "run"), other)[1]
    assert "params/head/kernel" not in weights_of(str(tmp_path / "run"), tokens, (1, 3, 2, "relu"))[1]  # on an adapter
    assert "params/head/kernel" not in weights_of(str(folder))[1]
    again = config_dict(f"{CONFIGS}/finetune_ctc.py:{run}")
    assert build(again).vocabulary == ours.objective.vocabulary and "vocabulary" not in again


def test_a_layer_without_a_usable_vocabulary_leaves_the_encoder(run, tmp_path, capsys):
    folder = Path(shutil.copytree(run.parent / "hf", tmp_path / "hf"))
    (folder / "vocab.json").unlink()
    assert main(["import", "hf", str(folder), "--out", str(tmp_path / "run")]) == 0
    assert "no texts     the CTC layer is left out" in capsys.readouterr().out
    for place in (folder, tmp_path / "run"):
        model = jepa_speech.load_pretrained(place)
        assert model.config.objective.name == "wav2vec2" and "head" not in model.params
        with pytest.raises(UserError, match=r"vocab.json: no such file"):
            _ = model.writer


def test_a_layer_on_an_adapter_is_left_out(run, tmp_path):
    """As after `add_adapter` was set to false: the layer has the encoder's width, and reads something else."""
    folder = Path(shutil.copytree(run.parent / "hf", tmp_path / "hf"))
    arrays = read_safetensors(folder / "model.safetensors")
    adapter = {"wav2vec2.adapter.layers.0.conv.weight": np.zeros((32, 16, 3), np.float32)}
    write_safetensors(folder / "model.safetensors", arrays | adapter, {"format": "pt"})
    model = jepa_speech.load_pretrained(folder)
    with pytest.raises(UserError, match=r"its CTC layer is on an adapter after the encoder \(add_adapter\)"):
        _ = model.writer


@pytest.mark.parametrize("bias", [True, False])
def test_the_layer_is_read_with_and_without_a_bias(bias, run, tmp_path):
    folder = Path(shutil.copytree(run.parent / "hf", tmp_path / "hf"))
    arrays = read_safetensors(folder / "model.safetensors")
    if not bias:
        del arrays["lm_head.bias"]
        write_safetensors(folder / "model.safetensors", arrays, {"format": "pt"})
    model = jepa_speech.load_pretrained(folder)
    np.testing.assert_array_equal(model.params["head"]["kernel"], arrays["lm_head.weight"].T)
    np.testing.assert_array_equal(model.params["head"]["bias"], arrays.get("lm_head.bias", np.zeros(7)))
    assert config_of_a_run(run / "config.json")["objective"]["characters"] == " 'abc"
