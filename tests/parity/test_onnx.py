"""ONNX files in onnxruntime: our layers, at any number and length of waves."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

from exported import small_config, small_run  # noqa: E402
from toys import CONFIGS  # noqa: E402

import jepa_speech  # noqa: E402
from jepa_speech.cli import main  # noqa: E402
from jepa_speech.train.configfile import load_config, plain  # noqa: E402

GROUP_NORM = ("hubert", "wav2vec2")  # over time, so rows must not be padded
LENGTHS = (400, 719, 5_000, 16_000, 35 * 16_000)
# onnxruntime's Fourier transform of 400 samples is less exact than that of torch: log-mel differs by 3e-4 then.
SLOW = [("logmel", 1e-3), ("hubert", 1e-4), ("wav2vec2", 1e-4)]


@pytest.mark.parametrize(
    ("name", "tolerance"), [("conv", 1e-4), *(pytest.param(*x, marks=pytest.mark.slow) for x in SLOW)]
)
def test_onnxruntime_gives_our_layers(name, tolerance, tmp_path, capsys):
    if name in ("conv", "logmel"):
        config = plain(load_config(f"{CONFIGS}/tiny.py:pure_jepa"))
        config["encoder"] |= {"frontend": name, "channels": 8}
    else:
        config = small_config(name)
    run, out = small_run(tmp_path / "run", config), str(tmp_path / "onnx")
    assert main(["export", "onnx", str(run), "--out", out]) == 0
    session = onnxruntime.InferenceSession(f"{out}/model.onnx")
    ours, rng = jepa_speech.load_pretrained(run), np.random.default_rng(0)
    waves = [rng.normal(0.1, 0.2, samples).astype(np.float32) for samples in LENGTHS]
    batches = [[wave] for wave in waves] if name in GROUP_NORM else [waves[:4], waves[4:]]
    for batch in batches:
        mask = (np.arange(max(map(len, batch))) < np.array([len(wave) for wave in batch])[:, None]).astype(np.int64)
        padded = np.zeros(mask.shape, np.float32)
        padded[mask > 0] = np.concatenate(batch)
        (found,) = session.run(None, {"waves": padded, "mask": mask})
        for wave, layers in zip(batch, found, strict=True):
            exact = np.stack(ours.represent(wave, 16_000).layers)
            assert np.abs(exact - layers[:, : exact.shape[1]]).max() < tolerance, len(wave)
    assert main(["export", "onnx", str(run), "--out", out]) == 1
    assert "it is there already" in capsys.readouterr().err
