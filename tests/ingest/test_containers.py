"""Checksums and headers of containers, by known values and by hand."""

import io

import numpy as np
import pytest
import soundfile
from support.audio_files import tone

from jepa_speech.ingest.audio_source import Rejected, Window
from jepa_speech.ingest.containers import check, flac, mp3, ogg, sized, wav
from jepa_speech.ingest.containers.crc16 import TABLE, crc16


def window(data: bytes) -> Window:
    return Window(lambda count, offset: data[offset : offset + count], len(data))


def encoded(container: str, subtype: str | None = None, rate: int = 16_000) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(1.0, rate=rate), rate, format=container, subtype=subtype)
    return buffer.getvalue()


@pytest.mark.parametrize("length", [0, 1, 2, 255, 256, 257, 513, 4000])
def test_crc16_is_that_of_a_plain_loop(length):
    data = np.random.default_rng(length).bytes(length)
    state = 0
    for byte in data:
        state = int(TABLE[(state ^ byte) & 255]) ^ state >> 8
    assert crc16(data) == state == crc16(data[length // 3 :], crc16(data[: length // 3]))


def test_published_values_of_the_checksums():
    assert crc16(b"123456789") == 0xBB3D  # CRC-16/ARC
    assert ogg.crc(b"123456789") == 0x89A1897F  # the polynomial 0x04C11DB7 from 0, neither mirrored nor inverted


@pytest.mark.parametrize(
    ("container", "subtype", "kind"),
    [("WAV", None, wav), ("FLAC", None, flac), ("OGG", "VORBIS", ogg), ("OGG", "OPUS", ogg), ("MP3", None, mp3)],
)
def test_each_kind_is_known_by_its_first_bytes(container, subtype, kind):
    file = window(encoded(container, subtype))
    assert [one for one in (wav, ogg, flac, mp3) if one.is_it(file)] == [kind]


def test_what_a_whole_file_promises():
    assert check(window(encoded("FLAC"))).frames == 16_000
    assert check(window(encoded("OGG", "VORBIS"))).frames == 16_000
    assert check(window(encoded("OGG", "OPUS"))).seconds == pytest.approx(1.0)
    assert check(window(encoded("FLAC", "PCM_24"))).bits == 24


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 44_100, 48_000, 96_000, 12_000, 192_000])
def test_rate_of_a_flac_frame(rate):
    data = encoded("FLAC", rate=rate)
    assert flac._frame_rate(data[data.index(b"\xff\xf8") :][:16]) == rate


@pytest.mark.parametrize("rate", [8000, 16_000, 24_000, 44_100, 48_000])
def test_mp3_frames_of_every_version(rate):
    data = encoded("MP3", rate=rate)
    check(window(data))
    check(window(b"ID3\4\0\0\0\0\1\0" + bytes(128) + data + b"TAG" + bytes(125)))  # between tags
    check(window(data + bytes(1000)))
    with pytest.raises(Rejected, match="no MP3 frame"):
        check(window(data + b"rubbish"))


def test_ogg_streams_that_are_not_one():
    one, two = (encoded("OGG", "VORBIS") for _ in range(2))
    with pytest.raises(Rejected, match="several streams"):
        check(window(one + two))
    pages = [one[at:] for at in range(len(one)) if one[at : at + 4] == b"OggS"]
    sizes = [len(a) - len(b) for a, b in zip(pages, [*pages[1:], b""], strict=True)]
    whole = [page[:size] for page, size in zip(pages, sizes, strict=True)]
    with pytest.raises(Rejected, match="page 2 is missing"):
        check(window(b"".join(whole[:2] + whole[3:])))
    with pytest.raises(Rejected, match="does not end the stream"):
        check(window(b"".join(whole[:-1])))


def test_bytes_of_nothing_promise_nothing():
    for data in (b"", b"R", b"RIFF", b"OggQ", b"ID3", bytes(100), b"\xff"):
        assert check(window(data)).frames is None


SIZED = ("AIFF", "AU", "CAF", "NIST", "W64", "VOC")


@pytest.mark.parametrize("container", SIZED)
def test_a_file_that_was_cut_is_named_in_every_encoding(container):
    """libsndfile reads what is left of it."""
    encodings = soundfile.available_subtypes(container)
    whole = [encoded(container, name) for name in encodings if name != "DWVW_12"]  # which libsndfile does not write
    for data in [*whole, encoded(container, rate=8000)]:
        assert sized.is_it(window(data)) and check(window(data)).frames is None
        for length in (len(data) - 40, len(data) // 2):
            with pytest.raises(Rejected, match="promises are missing") as caught:
                check(window(data[:length]))
            assert caught.value.reason == "truncated"


def test_sizes_that_a_writer_to_a_pipe_does_not_know():
    au, caf = encoded("AU"), encoded("CAF")
    check(window(au[:8] + b"\xff" * 4 + au[12:]))
    at = caf.index(b"data") + 4
    check(window(caf[:at] + b"\xff" * 8 + caf[at + 8 :]))
    aiff, w64 = encoded("AIFF"), encoded("W64")
    at = aiff.index(b"SSND") + 4
    for size in (b"\x7f\0\0\0", b"\0\0\0\0", b"\xff\xff\xff\xff"):
        check(window(aiff[:at] + size + aiff[at + 4 :]))
    at = w64.index(b"data\xf3") + 16
    check(window(w64[:at] + bytes(8) + w64[at + 8 :]))
    voc = encoded("VOC")
    check(window(voc[:27] + bytes(3) + voc[30:]))
    nist = encoded("NIST")
    for old, new in ((b"sample_count", b"other_number"), (b"-s3 pcm", b"-s3 xyz"), (b"   1024", b"      ?")):
        assert old in nist
        check(window(nist.replace(old, new)))


@pytest.mark.parametrize("container", SIZED)
def test_tags_behind_the_samples_are_no_damage(container):
    for tag in (b"TAG" + bytes(125), b"APETAGEX" + bytes(200), b"\xff" * 37):
        check(window(encoded(container) + tag))


@pytest.mark.parametrize("container", SIZED)
def test_no_header_of_a_sized_file_hangs_or_crashes(container):
    data, rng = encoded(container), np.random.default_rng(0)
    for _ in range(200):
        bad = bytearray(data[:400])
        bad[rng.integers(8, 60)] = rng.integers(256)
        try:
            check(window(bytes(bad)))
        except Rejected as error:
            assert error.reason == "truncated"
