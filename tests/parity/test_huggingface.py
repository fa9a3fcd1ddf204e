"""Encoders with the weights of transformers' models give the same hidden states."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from parity.oracles import TOLERANCE, compare, our_layers, their_model, waves  # noqa: E402

from jepa_speech.nn.relative_bias import buckets  # noqa: E402

TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")  # torch's, of WavLM's code
@pytest.mark.parametrize(
    ("name", "config", "seconds"),
    [
        ("wav2vec2", {}, [0.5]),
        ("wav2vec2", LARGE, [0.5, 0.3]),
        ("hubert", {}, [0.5]),
        ("wavlm", {}, [0.5]),
        ("wavlm", LARGE, [0.5, 0.3]),
        ("wavlm", {"num_buckets": 16, "max_bucket_distance": 20}, [0.9]),  # reaches the logarithmic ones
        ("data2vec-audio", {"num_conv_pos_embeddings": 5}, [0.5]),
    ],
)
def test_hidden_states(name, config, seconds):
    found = compare(name, TINY | config, seconds)
    assert len(found) == 4
    assert [d for d in found if not d.error <= d.tolerance] == []


def test_a_padded_row_is_what_the_recording_alone_is_to_the_published_model():
    """Base: the published code is run on one recording at a time, for its front-end's statistics run over time."""
    model = their_model("hubert", TINY)
    wave, lengths = waves([0.5, 0.3])
    ours = our_layers(model, wave, lengths)
    with torch.no_grad():
        theirs = model(torch.tensor(wave[1:, : lengths[1]])).last_hidden_state[0].numpy()
    assert np.abs(ours.z[1, : len(theirs)] - theirs).max() < TOLERANCE


def test_bucket_table_of_wavlm():
    attention = their_model("wavlm", TINY).encoder.layers[0].attention
    offsets = np.arange(-1_500, 1_501)
    np.testing.assert_array_equal(
        buckets(offsets, 320, 800), attention._relative_positions_bucket(torch.tensor(offsets))
    )
