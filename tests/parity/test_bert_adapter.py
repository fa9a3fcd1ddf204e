"""Wav2Vec2BertForCTC with its adapter: what transformers gives for the frames of one recording, and back."""

import json

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from parity.oracles import TOLERANCE, randomised  # noqa: E402
from support.toys import CONFIGS, build, typed  # noqa: E402

import jepa_speech  # noqa: E402
from jepa_speech.cli import main  # noqa: E402
from jepa_speech.errors import UserError  # noqa: E402
from jepa_speech.files import as_json  # noqa: E402
from jepa_speech.huggingface.safetensors import read_safetensors, write_safetensors  # noqa: E402
from jepa_speech.pretrained.init_from import weights_of  # noqa: E402
from jepa_speech.training.checkpoint import by_path  # noqa: E402
from jepa_speech.training.configfile import config_dict  # noqa: E402

VOCABULARY = {"<pad>": 0, "<unk>": 1, "|": 2, "A": 3, "B": 4}
SIZES = {
    "hidden_size": 18,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "conv_depthwise_kernel_size": 5,
    "num_hidden_layers": 1,
    "vocab_size": len(VOCABULARY),
    "add_adapter": True,
}
TWO = {"num_adapter_layers": 2, "adapter_kernel_size": 2, "adapter_stride": 3, "adapter_act": "gelu"}
LENGTHS = (9_000, 9_160, 9_480, 15_999)  # odd and even numbers of frames, with and without half a frame over


@pytest.fixture(scope="module", params=[{}, TWO], ids=["one layer", "two layers"])
def case(request, tmp_path_factory):
    """(transformers' model with random weights, its folder)."""
    folder = tmp_path_factory.mktemp("hf")
    config = transformers.Wav2Vec2BertConfig(**SIZES | request.param)
    model = randomised(lambda: transformers.Wav2Vec2BertForCTC(config))
    model.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(VOCABULARY))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    transformers.Wav2Vec2BertProcessor(transformers.SeamlessM4TFeatureExtractor(), tokenizer).save_pretrained(folder)
    return model, folder


def waves():
    return [np.random.default_rng(n).normal(0.01, 0.1, n).astype(np.float32) for n in LENGTHS]


def theirs(model, wave):
    """log p (T, V) of a recording, from its own frames: not from the one of padding that the extractor may add."""
    inputs = transformers.SeamlessM4TFeatureExtractor()(wave, sampling_rate=16_000, return_tensors="pt")
    count = int(inputs["attention_mask"].sum())
    with torch.no_grad():
        return torch.log_softmax(model(inputs["input_features"][:, :count]).logits[0], -1).numpy()


def ours(folder, waves):
    """log p (T, V) of each of the waves, computed in one padded batch."""
    model = jepa_speech.load_pretrained(folder)
    batch = np.stack([np.pad(wave, (0, 20_000 - len(wave))) for wave in waves])
    lengths = np.array([len(wave) for wave in waves])
    (log_p,), counts = jax.jit(model.objective.emissions)(model.params, model.aux_state, batch, lengths)
    return [np.asarray(row[:count]) for row, count in zip(log_p, counts, strict=True)]


def furthest(model, found):
    """The largest difference to transformers'."""
    return max(np.abs(theirs(model, wave) - mine).max() for wave, mine in zip(waves(), found, strict=True))


def test_rows_of_a_padded_batch_are_theirs_of_each_recording_alone(case):
    model, folder = case
    assert furthest(model, ours(folder, waves())) < TOLERANCE


def test_a_twin_with_the_two_convolutions_exchanged_is_not(case, tmp_path):
    """So the comparison sees which convolution is whose."""
    model, folder = case
    arrays = read_safetensors(folder / "model.safetensors")
    names = {name: name.replace("residual_conv", "X").replace("self_attn_conv", "residual_conv") for name in arrays}
    write_safetensors(
        tmp_path / "model.safetensors",
        {name.replace("X", "self_attn_conv"): arrays[before] for before, name in names.items()},
        {"format": "pt"},
    )
    for name in ("config.json", "vocab.json"):
        (tmp_path / name).write_text((folder / name).read_text())
    assert furthest(model, ours(tmp_path, waves())) > 100 * TOLERANCE


def test_import_and_export_keep_it(case, tmp_path):
    model, folder = case
    assert main(["import", "hf", str(folder), "--out", str(tmp_path / "run")]) == 0
    assert main(["export", "hf", str(tmp_path / "run"), "--out", str(tmp_path / "again")]) == 0
    back = transformers.Wav2Vec2BertForCTC.from_pretrained(tmp_path / "again")
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, back.state_dict()[key]), key
    for key in ("add_adapter", *TWO):
        assert getattr(back.config, key) == getattr(model.config, key)
    wave = waves()[0]
    np.testing.assert_array_equal(theirs(back, wave), theirs(model, wave))

    # Fine-tuning goes on with it.
    config = typed(config_dict(f"{CONFIGS}/finetune_ctc.py:{tmp_path / 'run'}"))
    objective = build(config)
    _, arrays = weights_of(config.init_from, objective.vocabulary, config.objective.adapter)
    wanted = by_path({"params": jax.eval_shape(objective.init, jax.random.key(0))[0]})
    assert {name: x.shape for name, x in wanted.items()} == {name: x.shape for name, x in arrays.items()}


@pytest.mark.parametrize("case", [{}], indirect=True)
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"output_hidden_size": 20}, "output_hidden_size = 20: an adapter can be read only with hidden_size, 18"),
        (
            {"use_intermediate_ffn_before_adapter": True},
            "use_intermediate_ffn_before_adapter = true: an adapter can be",
        ),
        ({"adapter_act": "tanh"}, "adapter_act = 'tanh'"),
        ({"num_adapter_layers": 900}, "num_adapter_layers = 900, but the weights have"),
        ({"adapter_kernel_size": 9}, "adapter_kernel_size = 9, but the weights have"),
        ({"adapter_stride": 8}, "adapter_stride = 8: expected a stride"),
        ({"add_adapter": False}, r"on an adapter after the encoder \(add_adapter\), which cannot be read"),
    ],
)
def test_another_adapter_is_named_and_the_encoder_read(change, told, case, tmp_path):
    _, folder = case
    for name in ("model.safetensors", "vocab.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "config.json").write_text(as_json(json.loads((folder / "config.json").read_text()) | change))
    model = jepa_speech.load_pretrained(tmp_path)
    assert model.params["encoder"] and "adapter" not in model.params
    with pytest.raises(UserError, match=told):
        _ = model.writer
