"""CTC models of transformers: the same texts as transformers' greedy decoding, and back through its pipeline."""

import json

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import soundfile  # noqa: E402
from parity.oracles import randomised  # noqa: E402
from parity.sizes import PRE_NORM, TINY  # noqa: E402
from support.exported_runs import ctc_config, ctc_run, own_config  # noqa: E402

import jepa_speech  # noqa: E402
from jepa_speech.cli import main  # noqa: E402
from jepa_speech.huggingface.tokenizer import read_tokens, tokenizer_files  # noqa: E402

LETTERS = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "E": 5, "T": 6, "'": 7, "S": 8, ".": 9}
ENDING = {"a": 0, "b": 1, "|": 2, "[UNK]": 3, "[PAD]": 4, "ch": 5}  # the blank is not the first class
ONE_BLOCK = {"num_hidden_layers": 1, "conv_depthwise_kernel_size": 5}
NAMES = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")  # of WavLM's code


def waves():
    """Noise that comes and goes, and silence."""
    random, time = np.random.default_rng(0), np.arange(9_000)
    return [(random.normal(0.1, 0.2, 9_000) * np.sin(time / 900)).astype(np.float32), np.zeros(9_000, np.float32)]


@pytest.mark.parametrize(
    ("name", "wiring", "vocabulary", "settings"),
    [
        ("Wav2Vec2", {"vocab_size": 12}, LETTERS, {"do_lower_case": True}),
        ("Hubert", {"vocab_size": 6} | PRE_NORM, ENDING, NAMES),
        ("WavLM", {"vocab_size": 10}, LETTERS, {"clean_up_tokenization_spaces": True}),
        ("UniSpeechSat", {"vocab_size": 10} | ONE_BLOCK, LETTERS, {}),
        ("Data2VecAudio", {"vocab_size": 10, "num_conv_pos_embeddings": 2} | ONE_BLOCK, LETTERS, {}),
        ("Wav2Vec2Conformer", {"vocab_size": 10, "position_embeddings_type": "rotary"} | ONE_BLOCK, LETTERS, {}),
        ("Wav2Vec2Bert", {"vocab_size": 10} | ONE_BLOCK, LETTERS, {}),
        ("Wav2Vec2Bert", {"vocab_size": 10, "add_adapter": True} | ONE_BLOCK, LETTERS, {}),
    ],
)
def test_a_folder_is_transcribed_as_transformers_does(name, wiring, vocabulary, settings, tmp_path, capsys):
    """By the command line; and an export of the imported run by transformers' pipeline."""
    config = getattr(transformers, f"{name}Config")(**(TINY | wiring))
    model = randomised(lambda: getattr(transformers, f"{name}ForCTC")(config))
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json"), **settings)
    if name == "Wav2Vec2Bert":  # which takes filter banks
        processor = transformers.Wav2Vec2BertProcessor(transformers.SeamlessM4TFeatureExtractor(), tokenizer)
    else:
        extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=False)
        processor = transformers.Wav2Vec2Processor(extractor, tokenizer)
    inputs = processor(waves(), sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        model.lm_head.bias -= model(**inputs).logits[0].mean(0)  # so that all classes occur,
        model.lm_head.bias[vocabulary["|"]] += model.lm_head.weight.std()  # spaces most of all
        texts = [processor.decode(row.argmax(-1)) for row in model(**inputs).logits]
    assert len(set(texts[0])) > 4 and " " in texts[0]
    for part in (model, processor):
        part.save_pretrained(tmp_path / "hf")

    files = [str(tmp_path / f"{i}.wav") for i in range(len(texts))]
    for file, wave in zip(files, waves(), strict=True):
        soundfile.write(file, wave, 16_000, subtype="FLOAT")
    assert main(["transcribe", str(tmp_path / "hf"), *files]) == 0
    assert capsys.readouterr().out == "".join(f"{x}\t{y}\n" for x, y in zip(files, texts, strict=True))
    assert main(["import", "hf", str(tmp_path / "hf"), "--out", str(tmp_path / "run")]) == 0
    assert main(["export", "hf", str(tmp_path / "run"), "--out", str(tmp_path / "again")]) == 0
    recogniser = transformers.pipeline("automatic-speech-recognition", str(tmp_path / "again"))
    kept = "Wav2Vec2" if name == "UniSpeechSat" else name  # the same encoder, which is written as wav2vec 2.0's
    assert type(recogniser.model) is getattr(transformers, f"{kept}ForCTC")
    assert [recogniser(wave)["text"] for wave in waves()] == texts
    for key, tensor in model.state_dict().items():
        if name == "Wav2Vec2Conformer" and ".pos_conv_embed." in key:
            continue  # which its code never computes with
        assert torch.equal(tensor, recogniser.model.state_dict()[key.replace("unispeech_sat.", "wav2vec2.")]), key


def test_a_run_of_ours_is_transcribed_by_the_pipeline(tmp_path):
    """On our own encoder, with its torch code; and the exported folder, read back."""
    config = ctc_config(own_config("conv"))
    run, folder = ctc_run(tmp_path / "run", config), tmp_path / "hf"
    assert main(["export", "hf", str(run), "--out", str(folder)]) == 0
    recogniser = transformers.pipeline("automatic-speech-recognition", str(folder), trust_remote_code=True)
    texts = [recogniser(wave)["text"] for wave in waves()]
    assert len(set(texts[0])) > 3
    ours, again = jepa_speech.load_pretrained(run), jepa_speech.load_pretrained(folder)
    assert [ours.transcribe(wave, 16_000) for wave in waves()] == texts
    assert ours.objective.vocabulary == again.objective.vocabulary
    jax.tree.map(np.testing.assert_array_equal, ours.params, again.params)


@pytest.mark.parametrize(
    ("files", "classes"),
    [
        ({"vocab": LETTERS}, 10),
        ({"vocab": LETTERS}, 16),  # a layer padded to a multiple
        ({"vocab": LETTERS, "tokenizer_config": {"do_lower_case": True, "clean_up_tokenization_spaces": True}}, 12),
        ({"vocab": ENDING, "tokenizer_config": NAMES}, 8),
        ({"vocab": ENDING, "special_tokens_map": NAMES, "added_tokens": {"<s>": 6, "</s>": 7}}, 8),
        ({"vocab": ENDING, "special_tokens_map": NAMES, "added_tokens": {"<s>": 6, "</s>": 7}}, 6),
        ({"vocab": {"x": LETTERS, "y": ENDING}, "tokenizer_config": NAMES | {"target_lang": "y"}}, 7),
        ({"vocab": {"a": 0, "b": 2, "|": 4, "<pad>": 7}}, 12),  # numbers that nothing has
        ({"vocab": {"a": 0, "|": 1, "<pad>": 2}, "tokenizer_config": {"replace_word_delimiter_char": "_"}}, 3),
        ({"vocab": {"a": 0, " ": 1, "<pad>": 2, "<unk>": 3}, "special_tokens_map": {"word_delimiter_token": " "}}, 4),
        ({"vocab": {"a": 0, "#": 1, "<pad>": 2, "<unk>": 3}, "special_tokens_map": {"word_delimiter_token": "#"}}, 4),
        ({"vocab": ENDING, "tokenizer_config": NAMES | {"additional_special_tokens": ["<q>"], "bos_token": None}}, 9),
        (
            {
                "vocab": ENDING,
                "tokenizer_config": NAMES | {"added_tokens_decoder": {"6": {"content": "<q>", "lstrip": True}}},
                "special_tokens_map": {"pad_token": "a"},
            },
            8,
        ),
    ],
)
def test_a_vocabulary_is_read_and_written_as_transformers_reads_it(files, classes, tmp_path):
    for folder in (tmp_path / "theirs", tmp_path / "ours"):
        folder.mkdir()
    for name, value in ({"tokenizer_config": {}} | files).items():
        text = json.dumps(value | ({"tokenizer_class": "Wav2Vec2CTCTokenizer"} if name == "tokenizer_config" else {}))
        (tmp_path / "theirs" / f"{name}.json").write_text(text)
    tokens = read_tokens(tmp_path / "theirs", classes)
    for name, text in tokenizer_files(tokens).items():
        (tmp_path / "ours" / name).write_text(text)
    theirs, ours = (transformers.AutoTokenizer.from_pretrained(tmp_path / name) for name in ("theirs", "ours"))
    random = np.random.default_rng(0)
    for path in [[], *(random.integers(classes, size=12).tolist() for _ in range(50))]:
        assert tokens.text_of(np.array(path, int)) == theirs.decode(path) == ours.decode(path), path
