"""Crops of FLAC records by dr_flac: the samples that were encoded, and those of libsndfile, to the bit."""

import io

import numpy as np
import pytest
import soundfile

from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.ingest import flac_crop
from jepa_speech.ingest.audio import FULL_SCALE, encode

pytest.importorskip("miniaudio", reason="no wheel of miniaudio for this machine")
RANDOM = np.random.default_rng(0)
BLOCK = 4096  # samples in a block of libsndfile's encoder


def wave(kind: str, samples: int) -> np.ndarray:
    """A wave for each way in which FLAC codes a block: constant, verbatim, predicted, with unused bits."""
    time = np.arange(samples)
    made = {
        "silence": np.zeros(samples),
        "full scale noise": RANDOM.integers(-FULL_SCALE, FULL_SCALE, samples),
        "extremes": np.where(RANDOM.random(samples) < 0.5, -FULL_SCALE, FULL_SCALE - 1),
        "tone in noise": 9000 * np.sin(time / 7) + RANDOM.normal(0, 50, samples),
        "multiples of 64": 64 * RANDOM.integers(-400, 400, samples),
        "clicks": 30_000 * (RANDOM.random(samples) < 0.001),
    }
    return np.rint(made[kind]).astype(np.int16)


@pytest.mark.parametrize(
    "kind", ["silence", "full scale noise", "extremes", "tone in noise", "multiples of 64", "clicks"]
)
def test_crops_are_those_of_libsndfile_and_of_the_wave(kind, monkeypatch):
    for samples in (1, 15, 16, 17, 400, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 50_000):
        whole = wave(kind, samples)
        record = encode(whole, "flac")
        edges = [0, samples - 1, min(BLOCK, samples - 1), min(BLOCK, samples) - 1]
        for start in [*edges, *RANDOM.integers(samples, size=8).tolist()]:
            for wanted in {1, samples - start, int(RANDOM.integers(1, samples + 1))}:
                found = flac_crop.crop(record, start, wanted)
                assert found.dtype == np.float32
                expected = (whole / FULL_SCALE).astype(np.float32)[start : start + wanted]
                np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))
                with monkeypatch.context() as patch:
                    patch.setattr(flac_crop, "lib", None)
                    theirs = flac_crop.crop(record, start, wanted)
                np.testing.assert_array_equal(found.view(np.uint32), theirs.view(np.uint32))


def test_crops_of_speech_are_those_of_libsndfile(speech_data, monkeypatch):
    """Of records that were encoded elsewhere, with blocks of other lengths."""
    records = [path.read_bytes() for path in sorted(speech_data.glob("librispeech/**/*.flac"))[:40]]
    assert records
    crops = [(record, start, samples) for record in records for start, samples in ((0, 32_000), (7_321, 9_999))]
    found = [flac_crop.crop(*arguments) for arguments in crops]
    monkeypatch.setattr(flac_crop, "lib", None)
    for mine, arguments in zip(found, crops, strict=True):
        np.testing.assert_array_equal(mine.view(np.uint32), flac_crop.crop(*arguments).view(np.uint32))


def test_what_is_no_mono_flac_of_16_bits_is_refused():
    record = encode(wave("tone in noise", 2 * BLOCK), "flac")
    for wrong in (b"", b"fLaC", b"RIFF" + bytes(60)):
        with pytest.raises(ValueError, match="not FLAC"):
            flac_crop.crop(wrong, 0, 1)
    stereo = io.BytesIO()
    soundfile.write(stereo, np.zeros((500, 2)), SAMPLE_RATE, format="FLAC", subtype="PCM_24")
    with pytest.raises(ValueError, match="2 channels of 24 bits"):
        flac_crop.crop(stereo.getvalue(), 0, 1)
    assert len(flac_crop.crop(record[: len(record) // 2], 0, 2 * BLOCK)) < 2 * BLOCK
