"""Baselines are the features of the house, whole utterance by whole utterance."""

import numpy as np
import pytest
from support.audio_files import tone

from jepa_speech.errors import UserError
from jepa_speech.features import spectral
from jepa_speech.probing.baselines import baseline, with_context


@pytest.mark.parametrize("kind", ["logmel", "mfcc"])
def test_padding_gain_and_offset_change_nothing(kind):
    wave = tone(0.7).astype(np.float32)
    (found,) = baseline(kind)(wave, 16_000)
    centred = wave - wave.mean()
    expected = np.asarray(spectral.extract(kind, centred / np.sqrt(np.mean(centred**2))))
    np.testing.assert_allclose(found, expected, atol=2e-3)
    np.testing.assert_allclose(baseline(kind)(0.1 * wave + 0.2, 16_000)[0], found, atol=2e-2)


def test_context_stands_beside_every_frame():
    features = np.arange(12.0).reshape(6, 2)
    wide = with_context(features, 5)
    assert wide.shape == (6, 22)
    np.testing.assert_array_equal(wide[:, 10:12], features)
    np.testing.assert_array_equal(wide[2, 12:14], features[3])
    np.testing.assert_array_equal(wide[0, :2], features[0])
    wave = tone(0.3).astype(np.float32)
    assert [baseline(name)(wave, 16_000)[0].shape for name in ("logmel5", "mfcc5")] == [(14, 880), (14, 429)]


def test_other_rates_and_short_or_silent_audio():
    assert len(baseline("logmel")(tone(0.5, rate=8000), 8000)[0]) == 24
    assert np.isfinite(baseline("logmel")(np.zeros(800, np.float32), 16_000)[0]).all()
    with pytest.raises(UserError, match="399 samples at 16 kHz are less than one frame"):
        baseline("logmel")(np.ones(399, np.float32), 16_000)
    quiet = (30 * tone(0.5, rate=8000)).astype(np.int16)  # soxr adds noise to integers
    np.testing.assert_array_equal(
        baseline("logmel")(quiet, 8000)[0], baseline("logmel")(quiet.astype(np.float32), 8000)[0]
    )
