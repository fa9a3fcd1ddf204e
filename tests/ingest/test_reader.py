"""Every file and every segment of it holds the samples that one read of the whole file gives."""

import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from support.clustered_audio import babble
from support.input_writers import jsonl, lhotse_cut

from jepa_speech.ingest import audio, audio_source, decoding
from jepa_speech.ingest.audio_source import AudioSource, Rejected
from jepa_speech.ingest.containers import mp3
from jepa_speech.ingest.inputs.entry import Entry
from jepa_speech.ingest.manifest import entries
from jepa_speech.ingest.reader import Reader
from jepa_speech.store.prepare import prepare
from jepa_speech.store.store import Store

SECONDS = 120  # of speech
PART = 25  # s of it for each rate and number of channels, which are read in blocks of 10 ms to 2 s
CHEAP_PART = 60  # the same, where encoding costs little
CHEAP = ("wav", "flac")
SHORT_PART = 10  # the same, of formats whose decoding in blocks is plain
EVERY_RATE = (8000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
FORMATS = {  # container, encoding, how it is encoded, rates
    "wav": ("WAV", "PCM_16", {}, EVERY_RATE),
    "flac": ("FLAC", "PCM_16", {}, EVERY_RATE),
    "vorbis": ("OGG", "VORBIS", {}, EVERY_RATE),
    "opus": ("OGG", "OPUS", {}, (8000, 12_000, 16_000, 24_000, 48_000)),
    "mp3": ("MP3", "MPEG_LAYER_III", {"compression_level": 0.9}, EVERY_RATE),  # few bits: frames borrow the more
    "gsm": ("WAV", "GSM610", {}, (8000,)),  # cannot seek
    "adpcm": ("WAV", "MS_ADPCM", {}, (22_050,)),
    "aiff": ("AIFF", "PCM_24", {}, (44_100,)),
    "ima": ("AIFF", "IMA_ADPCM", {}, (22_050,)),
    "au": ("AU", "ULAW", {}, (8000,)),
    "caf": ("CAF", "FLOAT", {}, (16_000,)),
    "alac": ("CAF", "ALAC_16", {}, (16_000,)),
    "sph": ("NIST", "PCM_16", {}, (16_000,)),
    "w64": ("W64", "PCM_16", {}, (11_025,)),
    "rf64": ("RF64", "PCM_16", {}, (16_000,)),
    "voc": ("VOC", "PCM_16", {}, (8000,)),
}


PLAIN = ("aiff", "ima", "au", "caf", "alac", "sph", "w64", "rf64", "voc")


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """Speech at 16 kHz, float32 (S,): of LibriSpeech if it is at hand, otherwise made."""
    files = sorted(Path(os.environ.get("JEPA_SPEECH_DATA", "/nonexistent"), "librispeech", "audio").glob("*.flac"))
    read, missing = [], SECONDS * 16_000
    for path in files:
        if missing <= 0:
            break
        read.append(soundfile.read(path, dtype="float32")[0][:missing])
        missing -= len(read[-1])
    wave = np.concatenate([*read, babble(missing / 16_000).astype(np.float32)] if missing else read)
    return wave / (1.05 * np.abs(wave).max())


def write(path: Path, wave: np.ndarray, kind: str, rate: int, channels: int = 1) -> np.ndarray:
    """Encodes speech at 16 kHz; returns what one read of the file gives, (S, channels)."""
    container, encoding, how, _ = FORMATS[kind]
    wave = wave if rate == 16_000 else soxr.resample(wave, 16_000, rate)
    both = np.stack([wave, 0.7 * np.roll(wave, rate // 400)], axis=1)[:, :channels]
    with soundfile.SoundFile(path, "w", rate, channels, encoding, format=container, **how) as file:
        for at in range(0, len(both), 1 << 16):
            file.write(both[at : at + (1 << 16)])
    return soundfile.read(path, dtype="float32", always_2d=True)[0]


def samples(path: Path, rate: int, monkeypatch, rng, **stretch) -> np.ndarray:
    """What `decode` gives before it resamples, read in blocks of a random size."""
    monkeypatch.setattr(decoding, "SAMPLE_RATE", rate)
    monkeypatch.setattr(decoding, "BLOCK", int(rng.integers(600, 20_000)))
    wave, found = decoding.decode(AudioSource(path=str(path), **stretch))
    assert found == rate
    return wave


@pytest.mark.parametrize(("kind", "rate"), [(kind, rate) for kind, (*_, rates) in FORMATS.items() for rate in rates])
def test_decoded_as_by_one_read(kind, rate, speech, tmp_path, monkeypatch):
    rng = np.random.default_rng(rate)
    for channels in (1,) if kind == "gsm" else (1, 2):
        path = tmp_path / f"{channels}.{kind}"
        part = 16_000 * (CHEAP_PART if kind in CHEAP else SHORT_PART if kind in PLAIN else PART)
        at = rng.integers(len(speech) - part)
        whole = write(path, speech[at : at + part], kind, rate, channels)
        np.testing.assert_allclose(samples(path, rate, monkeypatch, rng), whole.mean(axis=1), rtol=0, atol=1e-6)
        lengths = rng.integers(400, rate, 40)
        starts = np.sort(rng.integers(0, len(whole) - lengths))
        lengths[0], starts[0] = 500, 1
        starts[1] = 501 + rate // 10  # a short way on
        starts[-2] = len(whole) - lengths[-2]  # the end, in the last page of an Ogg
        starts[-1] = len(whole) - 3 * rate  # and back again
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
            channel = None if rng.random() < 0.5 else int(rng.integers(channels))
            stretch = {"start": start / rate, "seconds": length / rate, "channel": channel}
            expected = whole[start : start + length]
            expected = expected.mean(axis=1) if channel is None else expected[:, channel]
            found = samples(path, rate, monkeypatch, rng, **stretch)
            assert abs(len(found) - length) <= 0.01 * rate  # an end near the file's is taken for it
            np.testing.assert_allclose(found[: len(expected)], expected, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def long_mp3(speech, tmp_path_factory):
    """A stereo MP3, and what one read of it gives."""
    path = tmp_path_factory.mktemp("long") / "long.mp3"
    return path, write(path, speech[: 30 * 16_000], "mp3", 16_000, 2)


@pytest.fixture
def decoded(monkeypatch) -> list[int]:
    """How many samples each read of a file gave."""
    counts, read = [], soundfile.SoundFile.read

    def counting(self, *args, **kwargs):
        block = read(self, *args, **kwargs)
        counts.append(len(block))
        return block

    monkeypatch.setattr(soundfile.SoundFile, "read", counting)
    monkeypatch.setattr(decoding, "BLOCK", 4000)
    return counts


ORDERS = {
    "in a row": lambda n: [(0.55 * i, 0.5, None) for i in range(n)],
    "overlapping": lambda n: [(0.55 * i, 2.0, None) for i in range(n)],
    "in no order": lambda n: [(0.55 * i, 0.9, None) for i in np.random.default_rng(0).permutation(n).tolist()],
    "channel by channel": lambda n: [(1.1 * (i % (n // 2)), 1.0, i // (n // 2)) for i in range(n)],
}


@pytest.mark.parametrize("order", ORDERS)
def test_fifty_segments_of_an_mp3_cost_one_pass(order, long_mp3, decoded, tmp_path):
    path, whole = long_mp3
    segments = ORDERS[order](50)
    cuts = [
        lhotse_cut({"name": str(i), "text": "", "speaker": ""}, path.name, a, b) for i, (a, b, _) in enumerate(segments)
    ]
    for cut, (_, _, channel) in zip(cuts, segments, strict=True):
        cut["recording"]["sources"][0]["channels"] = [0, 1]
        cut["channel"] = [0, 1] if channel is None else channel
    shutil.copy(path, tmp_path)
    prepare([jsonl(tmp_path / "cuts.jsonl", cuts)], tmp_path / "store", "pcm16", workers=1)
    assert 0.9 * len(whole) < sum(decoded) <= len(whole)
    store = Store(tmp_path / "store")
    assert [row["manifest_id"] for row in store.records()] == [str(i) for i in range(50)]
    for i, (start, seconds, channel) in enumerate(segments):
        expected = whole[round(16_000 * start) : round(16_000 * (start + seconds))]
        expected = expected.mean(axis=1) if channel is None else expected[:, channel].copy()
        np.testing.assert_allclose(store.read(i) * 32_768, audio.to_int16(expected), atol=1)


def test_what_is_kept_for_overlapping_segments_is_bounded(long_mp3, decoded, monkeypatch):
    path, whole = long_mp3
    monkeypatch.setattr("jepa_speech.ingest.reader.KEPT", 2 * 16_000)  # a second
    for start in (0.0, 2.0, 2.2, 10.0):
        found, _ = decoding.decode(AudioSource(path=str(path), start=start, seconds=3.0))
        expected = whole[round(16_000 * start) : round(16_000 * (start + 3))].mean(axis=1)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert sum(decoded) == pytest.approx(16_000 * (5 + 13), abs=12_000)  # from the start once, at 2.2 s


def test_a_file_that_changes_between_two_segments(speech, tmp_path):
    path = tmp_path / "x.mp3"
    for seed in (0, 1):
        whole = write(path, np.roll(speech[: 16_000 * 5], 16_000 * seed), "mp3", 16_000)[:, 0]
        for start in (1.0, 2.0):
            found, _ = decoding.decode(AudioSource(path=str(path), start=start, seconds=0.5))
            at = int(16_000 * start)
            np.testing.assert_allclose(found, whole[at : at + 8000], rtol=0, atol=1e-6)


def test_an_error_within_a_segment_spoils_no_later_one(long_mp3, monkeypatch):
    path, whole = long_mp3
    pread, size = os.pread, path.stat().st_size

    def failing(file, count, offset):
        if offset > size // 2:
            raise OSError(5, "Input/output error")
        return pread(file, count, offset)

    decoding.decode(AudioSource(path=str(path), start=0.0, seconds=1.0))  # looked through while it can be read
    monkeypatch.setattr(audio_source.os, "pread", failing)
    first = AudioSource(path=str(path), start=1.0, seconds=1.0)
    np.testing.assert_allclose(decoding.decode(first)[0], whole[16_000:32_000].mean(axis=1), atol=1e-6)
    with pytest.raises(Rejected, match="Input/output error"):
        audio.load(AudioSource(path=str(path), start=25.0, seconds=1.0))
    monkeypatch.undo()
    after = AudioSource(path=str(path), start=26.0, seconds=1.0)
    np.testing.assert_allclose(decoding.decode(after)[0], whole[416_000:432_000].mean(axis=1), atol=1e-6)


def test_threads_do_not_share_a_reader(long_mp3):
    path, whole = long_mp3
    wrong = []

    def decode(offset: float) -> None:
        for i in range(12):
            at = offset + 2 * i
            found, _ = decoding.decode(AudioSource(path=str(path), start=at, seconds=0.5))
            if np.abs(found - whole[int(at * 16_000) :][:8000].mean(axis=1)).max() > 1e-6:
                wrong.append(at)

    threads = [threading.Thread(target=decode, args=(0.5 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("rate", [8000, 16_000, 24_000, 44_100])
@pytest.mark.parametrize("how", [{}, {"bitrate_mode": "CONSTANT"}])
def test_an_mp3_that_does_not_count_its_frames(rate, how, speech, tmp_path, monkeypatch):
    """libsndfile guesses its length from the bit rate of the first frame: less than a half of it, here."""
    rng = np.random.default_rng(rate)
    monkeypatch.setitem(FORMATS, "mp3", ("MP3", "MPEG_LAYER_III", {"compression_level": 0.9} | how, EVERY_RATE))
    path = tmp_path / "x.mp3"
    for channels in (1, 2):
        expected = write(path, speech[: 16_000 * 10], "mp3", rate, channels).mean(axis=1)
        data = path.read_bytes()
        counts = b"Xing" in data[:48] or b"Info" in data[:48]  # not where bit rates are too low for such a frame
        bare = data[mp3._frame(data[:4])[1] :] if counts else data
        path.write_bytes(bare)
        guessed = soundfile.read(path, dtype="float32", always_2d=True)[0].mean(axis=1)
        delay = 576  # samples at the front, which the first frame declared to be skipped
        if how:  # of one bit rate: as it is
            expected, delay = guessed, 0
        else:
            assert len(guessed) < 0.9 * len(expected)
        for before, after in ((b"", b""), (b"ID3\4\0\0\0\0\1\0" + bytes(128), b"TAG" + bytes(125))):
            path.write_bytes(before + bare + after)
            found = samples(path, rate, monkeypatch, rng)
            assert 0 <= len(found) - delay - len(expected) < 1152
            np.testing.assert_allclose(found[delay : delay + len(expected)], expected, rtol=0, atol=1e-6)
            monkeypatch.setattr(decoding, "SAMPLE_RATE", 16_000)
            assert decoding.probe(AudioSource(path=str(path))) == pytest.approx(len(found) / rate, abs=0.1)
            for start in (2.0, 9.0, 0.5):
                part = samples(path, rate, monkeypatch, rng, start=start, seconds=0.5)
                np.testing.assert_array_equal(part, found[round(start * rate) :][: len(part)])


def test_a_member_of_a_tar_and_a_row_of_a_table(long_mp3, tmp_path):
    """An MP3 that begins somewhere in a file, whole."""
    import pyarrow.parquet
    from support.input_writers import tar_of

    path, whole = long_mp3
    data = path.read_bytes()
    archive = tar_of(tmp_path / "x.tar", {"a.txt": b"text", "a.mp3": data})
    table = pyarrow.table({"audio": [{"bytes": data, "path": "a.mp3"}]})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    for source in (archive, tmp_path / "x.parquet"):
        (entry,) = entries([source])
        np.testing.assert_allclose(decoding.decode(entry)[0], whole.mean(axis=1), rtol=0, atol=1e-6)
        part = Entry(**entry.row() | {"start": 20.0, "seconds": 1.0})
        np.testing.assert_allclose(decoding.decode(part)[0], whole[320_000:336_000].mean(axis=1), rtol=0, atol=1e-6)


def test_soundfile_still_asks_whether_a_file_can_seek(long_mp3, monkeypatch):
    """What the reader relies on: a file that cannot seek is read without a seek."""
    seeks = []
    monkeypatch.setattr(soundfile.SoundFile, "seek", lambda self, *args: seeks.append(args))
    path, whole = long_mp3
    with audio_source.opened(AudioSource(path=str(path))) as file:
        read = np.concatenate(list(Reader(file).blocks(3000)))
    assert not seeks and len(read) == len(whole)


@pytest.mark.parametrize("kind", ["mp3", "vorbis", "opus", "flac"])
@pytest.mark.parametrize("name", ["x", "x.wav", "x.raw", "x.mp3"])
def test_the_name_of_a_file_decides_nothing(kind, name, speech, tmp_path, monkeypatch):
    rng, path = np.random.default_rng(0), tmp_path / name
    encoded = tmp_path / "encoded"
    whole = write(encoded, speech[: 5 * 16_000], kind, 24_000)[:, 0]
    encoded.rename(path)
    np.testing.assert_allclose(samples(path, 24_000, monkeypatch, rng), whole, rtol=0, atol=1e-6)
    part = samples(path, 24_000, monkeypatch, rng, start=2.5, seconds=1.0)
    np.testing.assert_allclose(part, whole[60_000:84_000], rtol=0, atol=1e-6)
