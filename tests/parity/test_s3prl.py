"""The upstream folder, held to S3PRL's contract as its documentation has it; S3PRL's package itself is not needed."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from support.exported_runs import ENCODERS, own_config, small_config, small_run  # noqa: E402

import jepa_speech  # noqa: E402
from jepa_speech.cli import main  # noqa: E402
from jepa_speech.features.grid import frames  # noqa: E402

OWN = ("logmel", "conv")  # front-ends of our own encoder
TOGETHER = (*OWN, "wav2vec2:large", "wavlm:large", "gmm_jepa")  # of the others, each wave goes alone
LENGTHS, LONG = [400, 16_000, 719, 5_000], [35 * 16_000]
SLOW = [(name, LENGTHS + LONG) for name in (*OWN, *ENCODERS)]


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")  # torch's, of WavLM's code
@pytest.mark.parametrize(
    ("name", "lengths"),
    [("logmel", LENGTHS), ("hubert", LENGTHS), *(pytest.param(*each, marks=pytest.mark.slow) for each in SLOW)],
)
def test_an_upstream_gives_our_layers(name, lengths, tmp_path, capsys):
    run = small_run(tmp_path / "run", own_config(name) if name in OWN else small_config(name))
    assert main(["export", "s3prl", str(run), "--out", str(tmp_path / "upstream")]) == 0
    upstream = torch.hub.load(str(tmp_path / "upstream"), "jepa_speech", source="local")
    assert upstream.together is (name in TOGETHER)
    assert upstream.get_downsample_rates("hidden_states") == 320
    rng = np.random.default_rng(0)
    waves = [rng.normal(0.1, 0.2, samples).astype(np.float32) for samples in lengths]
    with torch.no_grad():
        found = upstream([torch.tensor(wave) for wave in waves])
    ours = jepa_speech.load_pretrained(run)
    for row, wave in enumerate(waves):
        layers = ours.represent(wave, 16_000).layers
        assert len(found["hidden_states"]) == len(layers)
        for i, (exact, layer) in enumerate(zip(layers, found["hidden_states"], strict=True)):
            assert layer.shape[:2] == (len(lengths), frames(max(lengths)))
            assert np.abs(exact - layer[row, : len(exact)].numpy()).max() < 1e-4
            assert found[f"hidden_state_{i}"] is layer
    assert found["last_hidden_state"] is found["hidden_states"][-1]
    capsys.readouterr()
    assert main(["export", "s3prl", str(run), "--out", str(tmp_path / "upstream")]) == 1
    assert "already has a hubconf.py" in capsys.readouterr().err
