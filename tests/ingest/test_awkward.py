"""Files of odd shapes, and files that are not what they were: each is used, or rejected with its reason."""

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.audio_files import tone, write_tones

from jepa_speech.ingest import audio_source, decoding
from jepa_speech.ingest.audio import Rejected, load
from jepa_speech.ingest.audio_source import AudioSource
from jepa_speech.ingest.decoding import probe
from jepa_speech.ingest.inputs.entry import Entry
from jepa_speech.ingest.manifest import entries
from jepa_speech.ingest.recording import recording
from jepa_speech.store.prepare import prepare


def verdict(what) -> str:
    try:
        return f"stored {len(load(what))}"
    except Rejected as rejected:
        return rejected.reason


def test_eight_channels_at_192_khz(tmp_path):
    wave = np.stack([tone(0.5, seed, 192_000) for seed in range(8)], axis=1)
    soundfile.write(tmp_path / "x.wav", wave, 192_000)
    soundfile.write(tmp_path / "mean.wav", wave.mean(axis=1), 192_000, subtype="DOUBLE")
    assert verdict(tmp_path / "x.wav") == "stored 8000"
    np.testing.assert_allclose(load(tmp_path / "x.wav"), load(tmp_path / "mean.wav"), atol=2)
    one = AudioSource(path=str(tmp_path / "x.wav"), channel=7)
    assert abs(np.corrcoef(load(one), load(tmp_path / "x.wav"))[0, 1]) < 0.8
    assert verdict(AudioSource(path=one.path, channel=8)) == "bad_channel"


def five_hours(path: Path) -> Path:
    """A WAV whose samples after the first second are a hole in the file."""
    soundfile.write(path, tone(1.0), 16_000)
    size = 5 * 3600 * 32_000
    os.truncate(path, 44 + size)
    with path.open("r+b") as file:
        for at, value in ((4, 36 + size), (40, size)):
            file.seek(at)
            file.write(struct.pack("<I", value))
    return path


def test_five_hours_are_too_long_and_their_segments_are_not(tmp_path):
    path = str(five_hours(tmp_path / "x.wav"))
    assert verdict(path) == "too_long"
    with pytest.raises(Rejected, match="too_long"):
        probe(AudioSource(path=path))
    assert verdict(AudioSource(path=path, start=0.25, seconds=0.5)) == "stored 8000"
    assert verdict(AudioSource(path=path, start=4.9 * 3600, seconds=1.0)) == "stored 16000"
    assert probe(AudioSource(path=path, start=3600, seconds=2.0)) == 2.0


def flac_without_a_length(path: Path, seconds: float) -> Path:
    """A FLAC from a stream: its header has neither the number of samples nor their MD5."""
    soundfile.write(path, np.zeros(round(seconds * 16_000)), 16_000)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0
    data[22:42] = bytes(20)
    path.write_bytes(data)
    return path


def test_what_packs_to_nearly_nothing_is_held_to_the_limit(tmp_path, monkeypatch):
    path = tmp_path / "x.flac"
    soundfile.write(path, np.zeros(40 * 16_000), 16_000)
    assert path.stat().st_size < 20_000 and verdict(path) == "stored 640000"
    monkeypatch.setattr(decoding, "MAX_SECONDS", 30.0)
    assert verdict(path) == "too_long"
    soundfile.write(tmp_path / "x.mp3", np.zeros(40 * 16_000), 16_000)
    assert verdict(tmp_path / "x.mp3") == "too_long"


def test_a_stream_without_a_length(tmp_path):
    with pytest.raises(Rejected, match="gives no length"):
        load(flac_without_a_length(tmp_path / "x.flac", 1.0))


def riff(data: bytes, promised: int, riff_size: int | None = None, after: bytes = b"") -> bytes:
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 16_000, 32_000, 2, 16)
    body = b"WAVE" + fmt + struct.pack("<4sI", b"data", promised) + data + after
    return b"RIFF" + struct.pack("<I", len(body) if riff_size is None else riff_size) + body


@pytest.mark.parametrize(
    ("promised", "riff_size", "after", "expected"),
    [
        (4000, None, b"", "stored 2000"),
        (4000, 4036 + 8, b"", "stored 2000"),  # a known slip of writers: the head counted twice
        (4000, 9000, b"", "truncated"),
        (4002, None, b"", "truncated"),
        (2_000_000_000, None, b"", "truncated"),
        (1000, None, b"", "bad_length"),
        (0, None, b"", "bad_length"),  # its RIFF size is right: not one from a pipe
        (0, 0, b"", "stored 2000"),  # from a pipe: neither size is known
        (0, 8, b"", "stored 2000"),
        (0, 36, b"", "stored 2000"),
        (0, 0xFFFFFFFF, b"", "stored 2000"),
        (0, 2000, b"", "bad_length"),
        (4000, None, b"LIST\4\0\0\0INFO", "stored 2000"),
        (4000, None, b"LIST\x09\0\0\0INFO", "bad_length"),
        (4000, None, b"\0", "stored 2000"),
    ],
)
def test_a_wav_header_that_lies_about_length(tmp_path, promised, riff_size, after, expected):
    samples = (8000 * np.random.default_rng(0).normal(size=2000)).astype("<i2").tobytes()
    (tmp_path / "x.wav").write_bytes(riff(samples, promised, riff_size, after))
    assert verdict(tmp_path / "x.wav") == expected


def test_a_wav_from_a_pipe_in_segments_and_without_samples(tmp_path):
    samples = (8000 * np.random.default_rng(0).normal(size=2000)).astype("<i2")
    piped = riff(samples.tobytes(), 0, 0).replace(b"fmt ", b"LIST\4\0\0\0INFOfmt ")  # another chunk in front
    (tmp_path / "x.wav").write_bytes(piped)
    np.testing.assert_allclose(decoding.decode(AudioSource(path=str(tmp_path / "x.wav")))[0] * 32_768, samples)
    part = AudioSource(path=str(tmp_path / "x.wav"), start=0.05, seconds=0.05)
    np.testing.assert_allclose(decoding.decode(part)[0] * 32_768, samples[800:1600])
    assert probe(part) == 0.05 and probe(AudioSource(path=part.path)) == 2000 / 16_000
    for after in (b"", b"LIST\4\0\0\0INFO"):
        (tmp_path / "x.wav").write_bytes(riff(b"", 0, 0, after))
        assert verdict(tmp_path / "x.wav") == "empty"


@pytest.mark.parametrize(("samples", "reason"), [(8000, "bad_length"), (32_000, "truncated")])
def test_a_flac_header_that_lies_about_length(tmp_path, samples, reason):
    path = tmp_path / "x.flac"
    soundfile.write(path, tone(1.0), 16_000)
    data = bytearray(path.read_bytes())
    assert int.from_bytes(data[22:26], "big") == 16_000
    data[22:26] = samples.to_bytes(4, "big")
    path.write_bytes(data)
    assert verdict(path) in (reason, "damaged", "unreadable")
    data[22:26] = (16_000).to_bytes(4, "big")
    data[19] ^= 1  # its rate
    path.write_bytes(data)
    assert verdict(path) == "damaged"


def test_samples_that_are_not_those_of_the_md5(tmp_path):
    """Both files are whole by all their checksums; only the header of one does not belong to the other's samples."""
    parts = []
    for seed in (1, 2):
        buffer = io.BytesIO()
        soundfile.write(buffer, tone(1.0, seed), 16_000, format="FLAC", subtype="PCM_24")
        parts.append(buffer.getvalue())
    path = tmp_path / "x.flac"
    path.write_bytes(parts[0])
    assert verdict(path) == "stored 16000"
    path.write_bytes(parts[0][:42] + parts[1][42:])
    assert verdict(path) == "damaged"
    assert verdict(AudioSource(path=str(path), start=0.1, seconds=0.2)) == "damaged"  # nor is a segment of it used


def test_what_cannot_be_read(tmp_path):
    """Whoever runs this may be allowed everything, so the system is made to say no in other ways."""
    os.mkfifo(tmp_path / "pipe.wav")
    assert verdict(tmp_path / "pipe.wav") == "not_a_file"  # and opening does not wait for a writer
    assert verdict("/dev/zero") == "not_a_file"
    if Path("/proc/self/mem").exists():
        assert verdict("/proc/self/mem") in ("unreadable", "too_short", "empty")  # opens, cannot be read at 0


def test_no_permission(tmp_path, monkeypatch):
    (path,) = write_tones(tmp_path, 1)
    path.chmod(0)
    if os.access(path, os.R_OK):  # root may read all the same

        def no(*_args):
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(audio_source.os, "open", no)
    assert verdict(path) == "unreadable"


def test_an_error_in_the_middle_of_reading(tmp_path, monkeypatch):
    (path,) = write_tones(tmp_path, 1, seconds=20.0)
    pread = os.pread

    def failing(file, count, offset):
        if offset > 300_000:
            raise OSError(5, "Input/output error")
        return pread(file, count, offset)

    monkeypatch.setattr(audio_source.os, "pread", failing)
    assert verdict(path) == "unreadable"


def test_a_file_that_changes_after_it_was_listed(tmp_path):
    write_tones(tmp_path, 2)
    first, second = entries([tmp_path])
    with Path(first.path).open("ab") as file:
        file.write(b"LIST\0\0\0\0")
    row, record = recording(first, "pcm16")
    assert row["reason"] == "changed" and record is None
    assert recording(second, "pcm16")[1] is not None


def test_a_file_that_changes_while_it_is_read(tmp_path, monkeypatch):
    (path,) = write_tones(tmp_path, 1)
    check = decoding.check

    def meanwhile(file):
        os.utime(path, ns=(1, 1))
        return check(file)

    monkeypatch.setattr(decoding, "check", meanwhile)
    assert verdict(path) == "changed"


def test_totals_add_up(speech_data, tmp_path):
    """Every file of the awkward set, and each only once: read = stored + rejected."""
    result = prepare([speech_data / "awkward"], tmp_path / "store", workers=1, max_reject_fraction=1.0)
    names = [path for path in (speech_data / "awkward").iterdir() if path.suffix != ".jsonl" and path.is_file()]
    assert result["read"] == len(names) == result["records"] + result["rejected"]
    assert sum(result["reasons"].values()) == result["rejected"] == 15


def test_an_entry_of_nothing_is_missing():
    assert recording(Entry(source="x", path="/nonexistent/x.wav"), "flac")[0]["reason"] == "missing"


def test_chunks_after_an_odd_number_of_bytes(tmp_path):
    """With the pad byte that the format asks for, and without it, as some write."""
    for pad in (b"", b"\0"):
        (tmp_path / "x.wav").write_bytes(riff(bytes(range(200)) * 20 + b"\1", 4001, after=pad + b"LIST\4\0\0\0INFO"))
        assert verdict(tmp_path / "x.wav") == "stored 2000"
