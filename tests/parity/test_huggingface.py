"""Encoders with the weights of transformers' models give the same hidden states."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from parity.oracles import TOLERANCE, arrays_of, compare, our_layers, their_model, waves  # noqa: E402
from parity.sizes import PRE_NORM, TINY, TINY_CODES, TINY_ENCODERS  # noqa: E402

import jepa_speech  # noqa: E402
from jepa_speech.cli import main  # noqa: E402
from jepa_speech.huggingface.parameters import from_huggingface  # noqa: E402
from jepa_speech.nn.module import Pure  # noqa: E402
from jepa_speech.nn.quantizer import GumbelQuantizer, QuantizerConfig  # noqa: E402
from jepa_speech.pretrained.load import load_pretrained  # noqa: E402


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")  # torch's, of WavLM's code
@pytest.mark.parametrize(
    ("name", "config", "seconds", "label"), TINY_ENCODERS, ids=[label for *_, label in TINY_ENCODERS]
)
def test_an_encoder_is_the_published_one(name, config, seconds, label):
    found = compare(name, config, seconds, label)
    assert len(found) == 3 + 2 * config["num_hidden_layers"]  # features, energy and input; layers and feed-forwards
    assert [d for d in found if not d.error <= d.tolerance] == []


def test_a_padded_row_is_what_the_recording_alone_is_to_the_published_model():
    """Base: the published code is run on one recording at a time, for its front-end's statistics run over time."""
    model = their_model("hubert", TINY)
    wave, lengths = waves([0.5, 0.3])
    ours = our_layers(model, wave, lengths)
    with torch.no_grad():
        theirs = model(torch.tensor(wave[1:, : lengths[1]])).last_hidden_state[0].numpy()
    assert np.abs(ours.z[1, : len(theirs)] - theirs).max() < TOLERANCE


def test_a_folder_and_its_imported_run_represent_as_the_published_model(tmp_path):
    """From a folder that transformers wrote, by the command line, for a Base front-end and a wave of any level."""
    model = their_model("wavlm", TINY)
    model.save_pretrained(tmp_path / "hf")
    assert main(["import", "hf", str(tmp_path / "hf"), "--out", str(tmp_path / "run")]) == 0
    wave = np.random.default_rng(0).normal(0.1, 0.3, 9_000).astype(np.float32)
    layers = jepa_speech.load_pretrained(tmp_path / "run").represent(wave, 16_000).layers
    straight = jepa_speech.load_pretrained(tmp_path / "hf").represent(wave, 16_000).layers
    with torch.no_grad():
        out = model(torch.tensor((wave - wave.mean()) / wave.std())[None], output_hidden_states=True)
    for ours, same, theirs in zip(layers, straight, out.hidden_states, strict=True):  # post-norm: the last is z
        assert np.abs(ours - theirs[0].numpy()).max() < TOLERANCE
        np.testing.assert_array_equal(same, ours)


@pytest.mark.parametrize(("name", "wiring"), [("wavlm", {}), ("wav2vec2", PRE_NORM)], ids=["wavlm", "wav2vec2"])
def test_waves_keep_their_level_where_the_extractor_does_not_normalise(name, wiring, tmp_path):
    """As of WavLM Base. A norm's epsilon makes a quiet wave another one than a loud one, after a group norm, too."""
    model, run = their_model(name, TINY | wiring | {"num_hidden_layers": 1}), tmp_path / "run"
    model.save_pretrained(tmp_path / "hf")
    transformers.Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(tmp_path / "hf")
    assert main(["import", "hf", str(tmp_path / "hf"), "--out", str(run)]) == 0
    assert main(["export", "hf", str(run), "--out", str(tmp_path / "again")]) == 0
    extractor, ours = transformers.AutoFeatureExtractor.from_pretrained(tmp_path / "again"), load_pretrained(run)
    for level in (1e-3, 0.3):
        wave = (level * np.random.default_rng(0).normal(0.1, 1, 9_000)).astype(np.float32)
        inputs = extractor(wave, sampling_rate=16_000, return_tensors="pt")
        with torch.no_grad():
            found = model(**inputs, output_hidden_states=True)
        theirs = (*found.hidden_states[:-1], found.last_hidden_state)
        for one, other in zip(ours.represent(wave, 16_000).layers, theirs, strict=True):
            assert np.abs(one - other[0].numpy()).max() < TOLERANCE


def test_the_imported_quantiser_chooses_the_same_codes():
    torch.manual_seed(0)
    model = transformers.Wav2Vec2ForPreTraining(transformers.Wav2Vec2Config(**(TINY | TINY_CODES))).eval()
    heads = from_huggingface(model.config.to_dict(), arrays_of(model)).extra
    features = np.random.default_rng(0).normal(size=(2, 20, 16)).astype(np.float32)
    quantizer = Pure(lambda rngs: GumbelQuantizer(16, QuantizerConfig(codes=6, width=10), rngs))
    ours = quantizer.apply(heads["quantizer"], features, 1.0).vectors
    with torch.no_grad():
        theirs = model.quantizer(torch.tensor(features))[0]
        projected = model.project_q(theirs)
    np.testing.assert_array_equal(ours, theirs)
    q = heads["project_q"]
    np.testing.assert_allclose(ours @ q["kernel"] + q["bias"], projected, atol=1e-5)
