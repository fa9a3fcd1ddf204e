"""One recording: what is stored of it, and what is refused with which reason."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from support.audio_files import tone

from jepa_speech.ingest import decoding
from jepa_speech.ingest.audio import Rejected, crop, encode, level, load, to_int16

# The verdict on every file of the awkward set that is not stored.
REFUSED = {
    "a_directory.wav": "not_a_file",
    "aac_16k.m4a": "unreadable",
    "corrupt_real_a.flac": "unreadable",
    "corrupt_real_b.flac": "unreadable",
    "float_all_nan.wav": "not_finite",
    "float_some_inf.wav": "not_finite",
    "float_some_nan.wav": "not_finite",
    "header_only.wav": "empty",
    "one_sample.wav": "too_short",
    "random_bytes.flac": "unreadable",
    "short_0.02s_8k.wav": "too_short",
    "text_named.wav": "unreadable",
    "truncated_half.flac": "unreadable",
    "truncated_half.wav": "truncated",
    "zero_length.wav": "unreadable",
    "zero_sample_rate.wav": "truncated",  # that, too
}
SILENT = {"silence_2s.wav", "stereo_opposite_phase_16k.wav", "constant_dc_16k.wav"}


def test_every_awkward_file_gets_the_verdict_its_manifest_expects(speech_data: Path):
    folder = speech_data / "awkward"
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    assert set(REFUSED) | SILENT <= {row["audio_path"] for row in rows} and len(rows) >= 46
    for row in rows:
        name = row["audio_path"]
        if (
            "reject" in row["expected"]
            or row.get("frames_read", 0) * 16_000 < 400 * row.get("header", {"samplerate": 1})["samplerate"]
        ):
            assert name in REFUSED, row
        if name in REFUSED:
            with pytest.raises(Rejected) as verdict:
                load(folder / name)
            assert verdict.value.reason == REFUSED[name] and verdict.value.detail, name
            continue
        wave = load(folder / name)
        seconds = row["header"]["frames"] / row["header"]["samplerate"]
        assert wave.dtype == np.int16 and abs(len(wave) / 16_000 - seconds) < 2e-3, name
        assert abs(wave.mean(dtype=np.float64)) < 1, name
        assert (level(wave) == 1.0) == (name in SILENT) and np.any(wave) == (name not in SILENT), name


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100])
def test_resampled_as_soxr_does_in_one_go(tmp_path, rate, monkeypatch):
    monkeypatch.setattr(decoding, "BLOCK", 1000)  # many blocks
    stereo = np.stack([tone(0.5, seed, rate) for seed in (1, 2)], axis=1)
    soundfile.write(tmp_path / "x.wav", stereo, rate, subtype="DOUBLE")
    oracle = soxr.resample(stereo.mean(axis=1).astype(np.float32), rate, 16_000)
    oracle = oracle - oracle.mean(dtype=np.float64)
    wave = load(tmp_path / "x.wav")
    assert len(wave) == len(oracle)
    np.testing.assert_allclose(wave / 32768, oracle, atol=2e-5)


@pytest.mark.parametrize("channels", [1, 2])
def test_samples_whose_sums_overflow_are_refused_and_very_loud_ones_are_not(tmp_path, channels):
    wave = np.tile(np.float32([[1.0], [-1.0], [-1.0]]), (1_000, channels))
    soundfile.write(tmp_path / "loud.wav", 1e29 * wave, 16_000, subtype="FLOAT")
    assert np.abs(load(tmp_path / "loud.wav")[0]).max() == 32767
    soundfile.write(tmp_path / "louder.wav", np.float32(3e38) * wave, 16_000, subtype="FLOAT")
    with pytest.raises(Rejected, match="extremely large"):
        load(tmp_path / "louder.wav")


def test_standardise_by_hand():
    quiet = np.array([0.25, -0.25, 0.25, -0.25], np.float32)
    np.testing.assert_array_equal(to_int16(quiet + 0.5), [8192, -8192, 8192, -8192])
    loud = np.array([3.0, -1.0, -1.0, -1.0], np.float32)  # mean 0, peak 3: a third of it is kept
    np.testing.assert_array_equal(to_int16(loud), [32767, -10923, -10923, -10923])
    np.testing.assert_array_equal(to_int16(np.full(500, 0.3, np.float32)), np.zeros(500))


def test_level_is_the_rms_and_1_for_silence():
    assert level(np.full(1000, -16384, np.int16)) == 0.5
    wave = to_int16(tone(40.0).astype(np.float32))  # longer than a block
    assert level(wave) == pytest.approx(np.sqrt(np.mean((wave / 32768.0) ** 2)), rel=1e-12)
    assert level(np.zeros(5, np.int16)) == 1.0


def test_codecs_hold_the_same_samples():
    wave = np.concatenate([np.int16([-32768, 32767, 0, 1, -1]), to_int16(tone(0.3).astype(np.float32))])
    flac, pcm = encode(wave, "flac"), encode(wave, "pcm16")
    for start, samples in [(0, len(wave)), (0, 1), (4321, 17), (len(wave) - 3, 3)]:
        expected = (wave[start : start + samples] / 32768).astype(np.float32)
        np.testing.assert_array_equal(crop(flac, "flac", start, samples), expected)
        np.testing.assert_array_equal(crop(pcm, "pcm16", start, samples), expected)


def wav(tmp_path, data_bytes, promised, rate=16_000, head=b"RIFF", before=b"") -> Path:
    """A 16-bit mono WAV whose data chunk promises `promised` bytes and holds `data_bytes`."""
    data = np.random.default_rng(0).integers(-999, 999, data_bytes // 2).astype("<i2").tobytes()
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    body = b"WAVE" + before + fmt + struct.pack("<4sI", b"data", promised) + data
    path = tmp_path / "x.wav"
    path.write_bytes(struct.pack("<4sI", head, min(0xFFFFFFFF, len(body))) + body)
    return path


def verdict(path) -> str:
    try:
        return f"stored {len(load(path))}"
    except Rejected as rejected:
        return rejected.reason


@pytest.mark.parametrize(
    ("promised", "expected"),
    [(2000, "stored 1000"), (2002, "truncated"), (0xFFFFFFFF, "stored 1000"), (0x7FFFFFFF, "stored 1000")],
)
def test_wav_shorter_than_its_header_says(tmp_path, promised, expected):
    assert verdict(wav(tmp_path, 2000, promised)) == expected


@pytest.mark.parametrize(("promised", "expected"), [(2000, "stored 1000"), (2002, "truncated")])
def test_large_wav_tells_its_size_elsewhere(tmp_path, promised, expected):
    sizes = struct.pack("<4sIQQQI", b"ds64", 28, 2072 + promised - 2000, promised, promised // 2, 0)
    assert verdict(wav(tmp_path, 2000, 0xFFFFFFFF, head=b"RF64", before=sizes)) == expected


@pytest.mark.parametrize(
    ("samples", "rate", "expected"),
    [(399, 16_000, "too_short"), (400, 16_000, "stored 400"), (500, 500, "bad_rate"), (900, 4_000_000, "bad_rate")],
)
def test_length_and_rate(tmp_path, samples, rate, expected):
    assert verdict(wav(tmp_path, 2 * samples, 2 * samples, rate)) == expected


def test_flac_cut_between_two_frames(tmp_path):
    """The decoder notices nothing there; only the header does."""
    path = tmp_path / "x.flac"
    soundfile.write(path, tone(2.0), 16_000)
    whole = path.read_bytes()
    seen = set()
    for cut in range(len(whole) // 2, len(whole) // 2 + 12_000, 97):
        path.write_bytes(whole[:cut])
        seen.add(verdict(path))
    cut_at_frame = whole.rfind(b"\xff\xf8")
    path.write_bytes(whole[:cut_at_frame])
    assert seen | {verdict(path)} <= {"unreadable", "truncated"}


def test_too_long_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "MAX_SECONDS", 0.5)
    soundfile.write(tmp_path / "x.wav", tone(0.5), 16_000)
    assert verdict(tmp_path / "x.wav") == "stored 8000"
    soundfile.write(tmp_path / "x.wav", tone(0.51), 16_000)
    assert verdict(tmp_path / "x.wav") == "too_long"


def test_names_that_no_file_has(tmp_path):
    assert verdict(tmp_path / "none.wav") == "missing"
    assert verdict(tmp_path) == "not_a_file"
    assert verdict(str(tmp_path / "a\0b.wav")) == "unreadable"
