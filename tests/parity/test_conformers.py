"""Wav2Vec2-Conformer and w2v-BERT 2.0 of transformers: from the wave to all layers, and back into them."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import jax  # noqa: E402
import soundfile  # noqa: E402
from parity.oracles import TOLERANCE, arrays_of, randomised  # noqa: E402
from parity.sizes import TINY_CODES  # noqa: E402
from support.public_models import CONFORMERS  # noqa: E402
from support.toys import toy_batch  # noqa: E402

import jepa_speech  # noqa: E402
from jepa_speech.cli import main  # noqa: E402
from jepa_speech.huggingface.export_folder import to_huggingface  # noqa: E402
from jepa_speech.huggingface.imported import imported_model  # noqa: E402
from jepa_speech.ingest.named_recordings import named  # noqa: E402
from jepa_speech.probing.dataset import wave_of  # noqa: E402

SIZES = {"hidden_size": 18, "num_attention_heads": 3, "intermediate_size": 20, "conv_depthwise_kernel_size": 5}
CONV = {"conv_dim": [12] * 7, "num_conv_pos_embedding_groups": 2}
# Sizes, and keys that no published model has: few positions, so that keys lie beyond both ends, and another base.
CASES = {
    "facebook/wav2vec2-conformer-rel-pos-large": (
        "Wav2Vec2ConformerForPreTraining",
        SIZES | CONV | TINY_CODES | {"num_hidden_layers": 2},
    ),
    "facebook/wav2vec2-conformer-rope-large": (
        "Wav2Vec2ConformerModel",
        SIZES | CONV | {"num_hidden_layers": 1, "rotary_embedding_base": 50, "hidden_act": "gelu"},
    ),
    "facebook/w2v-bert-2.0": (
        "Wav2Vec2BertModel",
        SIZES | {"num_hidden_layers": 2, "left_max_position_embeddings": 7, "right_max_position_embeddings": 2},
    ),
}
LENGTHS = (560, 7_001, 9_050, 15_999)


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """(positions, transformers' model with random weights, its folder)."""
    (name, sizes), published = CASES[request.param], CONFORMERS[request.param]
    kind, folder = getattr(transformers, name), tmp_path_factory.mktemp("hf")
    config = kind.config_class(**published | sizes)
    model = randomised(lambda: kind(config))
    model.save_pretrained(folder)
    extractor = transformers.SeamlessM4TFeatureExtractor if "Bert" in name else transformers.Wav2Vec2FeatureExtractor
    extractor(**({} if "Bert" in name else {"do_normalize": True})).save_pretrained(folder)
    return published["position_embeddings_type"], model, folder


def their_layers(model, folder, waves):
    """For each wave [(T, D)]: w2v-BERT's of one padded batch, Wav2Vec2-Conformer's one by one.

    In Wav2Vec2-Conformer, padding reaches the convolutions.
    """
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    model = getattr(model, "wav2vec2_conformer", model)
    found = []
    for group in [waves] if "input_features" in extractor.model_input_names else [[wave] for wave in waves]:
        inputs = extractor(group, sampling_rate=16_000, return_tensors="pt")
        with torch.no_grad():
            out = model(**inputs, output_hidden_states=True)
        counts = inputs["attention_mask"].sum(1) if len(group) > 1 else [out.last_hidden_state.shape[1]]
        layers = [*out.hidden_states[:-1], out.last_hidden_state]
        found += [[x[row, :count].numpy() for x in layers] for row, count in enumerate(counts)]
    return found


def test_hidden_states_are_theirs_from_the_wave_on(case):
    """Waves of several levels and offsets. w2v-BERT's own extractor computes in float64, and ours in float32."""
    _, model, folder = case
    rng = np.random.default_rng(0)
    waves = [rng.normal(0.01 * i, 0.1 * (i + 1), n).astype(np.float32) for i, n in enumerate(LENGTHS)]
    ours = jepa_speech.load_pretrained(folder).represent_batch(waves, 16_000)
    for one, theirs in zip(ours, their_layers(model, folder, waves), strict=True):
        errors = [np.abs(a - b).max() for a, b in zip(one.layers, theirs, strict=True)]
        assert max(errors) < TOLERANCE, errors


def test_embed_writes_their_last_layer(case, tmp_path):
    """By the command line, of the folder that transformers wrote."""
    _, model, folder = case
    wave = np.random.default_rng(1).normal(0, 0.1, 7_001).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype="FLOAT")
    name, out = str(tmp_path / "a.wav"), str(tmp_path / "a.npz")
    assert main(["embed", name, "--checkpoint", str(folder), "--out", out]) == 0
    ((*_, theirs),) = their_layers(model, folder, [wave_of(named([name])[0])])
    with np.load(out, allow_pickle=False) as found:
        np.testing.assert_allclose(found[name], theirs, atol=TOLERANCE)


def unread(name):
    """Whether transformers' code never computes with an array: a convolution, and buffers."""
    return ".pos_conv_embed." in name or name.endswith(("num_batches_tracked", "inv_freq"))


def test_an_import_trains_on_and_is_written_back_bit_for_bit(case):
    """What transformers computes with. The rest is there, too, so that its class loads all arrays and misses none."""
    positions, model, folder = case
    config, _, objective, params, aux_state, imported = imported_model(folder)
    assert not [
        name for name in imported.not_taken if "pos_conv" not in name and "inv_freq" not in name and "num_b" not in name
    ]
    batch = toy_batch(2, 0.5)
    key = jax.random.key(0)
    terms, _ = jax.eval_shape(lambda p: objective.loss(p, aux_state, batch, key, 0), params)
    assert "contrastive" in terms and ("prediction" in terms) == (positions == "relative_key")
    if positions == "relative":
        assert {"quantizer", "project_q", "final_proj"} <= params.keys() and not imported.drawn
    exported = to_huggingface(config, params["encoder"])
    encoder = getattr(model, "wav2vec2_conformer", model)
    theirs = arrays_of(encoder)
    for name in (name for name in theirs if not unread(name)):
        np.testing.assert_array_equal(exported.arrays[name], theirs[name], err_msg=name)
    back = type(encoder)(type(encoder.config).from_dict(exported.config))
    back.load_state_dict({name: torch.tensor(x) for name, x in exported.arrays.items()}, strict=True)
    if positions == "rotary":
        np.testing.assert_allclose(back.encoder.embed_positions.inv_freq, encoder.encoder.embed_positions.inv_freq)
    keys = exported.config.keys() - {
        "num_conv_pos_embeddings",
        "num_conv_pos_embedding_groups",
        "architectures",
        "dtype",
    }
    for key in keys:
        found, wanted = (getattr(each.config, key) for each in (back, encoder))
        assert found == wanted or list(found) == list(wanted), key
