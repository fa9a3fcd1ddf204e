"""ONNX files in onnxruntime: our layers, at any number and length of waves."""

import logging
import warnings
from logging.handlers import BufferingHandler

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

from support.exported_runs import ENCODERS, own_config, small_config, small_run  # noqa: E402

import jepa_speech  # noqa: E402
from jepa_speech.cli import main  # noqa: E402
from jepa_speech.exporters.onnx import REGISTRATION, standardised, without_torchvision  # noqa: E402

TOLERANCE = 1e-4  # 3e-6 were seen; on log-mel beside near silence 3e-5
PADDED = ("conv", "logmel", "wav2vec2:large", "wavlm:large", "gmm_jepa")  # of the others, rows must not be padded
LENGTHS = (400, 719, 5_000, 16_000, 35 * 16_000)
OWN = ("conv", "logmel")  # front-ends of our own encoder
SLOW = ("conv", *ENCODERS, "wav2vec2", "wavlm")  # a quarter of a minute each


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")  # torch's, of WavLM's code
@pytest.mark.parametrize("name", ["logmel", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_onnxruntime_gives_our_layers(name, tmp_path, capsys):
    config, out = own_config(name) if name in OWN else small_config(name), str(tmp_path / "onnx")
    run = small_run(tmp_path / "run", config)
    logged = BufferingHandler(1000)  # beside torch's own handler, which writes to the terminal
    logging.getLogger(REGISTRATION).addHandler(logged)
    assert main(["export", "onnx", str(run), "--out", out]) == 0
    logging.getLogger(REGISTRATION).removeHandler(logged)
    assert [record.getMessage() for record in logged.buffer] == []
    session = onnxruntime.InferenceSession(f"{out}/model.onnx")
    ours, rng = jepa_speech.load_pretrained(run), np.random.default_rng(0)
    waves = [rng.normal(0.1, 0.2, samples).astype(np.float32) for samples in LENGTHS]
    waves[3][:8_000] *= 1e-3  # near silence, where a Fourier transform shows what it rounds
    batches = [waves[:4], waves[4:]] if name in PADDED else [[wave] for wave in waves]
    for batch in batches:
        mask = (np.arange(max(map(len, batch))) < np.array([len(wave) for wave in batch])[:, None]).astype(np.int64)
        padded = np.zeros(mask.shape, np.float32)
        padded[mask > 0] = np.concatenate(batch)
        (found,) = session.run(None, {"waves": padded, "mask": mask})
        for wave, layers in zip(batch, found, strict=True):
            exact = np.stack(ours.represent(wave, 16_000).layers)
            assert np.abs(exact - layers[:, : exact.shape[1]]).max() < TOLERANCE, len(wave)
    assert main(["export", "onnx", str(run), "--out", out]) == 1
    assert "already has a model.onnx" in capsys.readouterr().err


class Standardised(torch.nn.Module):
    def forward(self, waves):
        return standardised(waves, torch.ones_like(waves) > 0)


def test_a_long_wave_is_standardised_exactly(tmp_path):
    """onnxruntime sums in float32 one after another: so the scale would be 1e-6 to 1e-5 off."""
    axes = ({0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC},)
    with warnings.catch_warnings(), without_torchvision():
        warnings.simplefilter("ignore")  # torch warns about its own code
        made = torch.onnx.export(
            Standardised(), (torch.randn(2, 16_000),), dynamic_shapes=axes, dynamo=True, verbose=False
        )
        made.save(tmp_path / "wave.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "wave.onnx")
    for seed in range(4):
        wave = np.random.default_rng(seed).normal(0.01, 0.05, 35 * 16_000).astype(np.float32)
        (found,) = session.run(None, {session.get_inputs()[0].name: wave[None]})
        centred = wave - wave.mean(dtype=np.float64)
        assert np.abs(found[0] - centred / centred.std()).max() < 1e-6
