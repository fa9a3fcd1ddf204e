"""Every suffix of audio: read in a folder and in a tar, or named with what to do."""

import io
import re
import struct

import numpy as np
import pytest
import soundfile
from support import pages
from support.audio_files import tone
from support.input_writers import tar_of

from jepa_speech.cli import main
from jepa_speech.errors import UserError
from jepa_speech.ingest import audio
from jepa_speech.ingest.containers import foreign, ogg
from jepa_speech.ingest.inputs.suffixes import FORMATS, REFUSED_SUFFIXES, SUFFIXES, UNREAD_SUFFIXES
from jepa_speech.store.prepare import prepare
from jepa_speech.store.store import Store

LOSSY = {".opus": "OPUS"}  # encodings other than the format's usual one


SILENT_FRAMES = {  # of MPEG layers that libsndfile reads but does not write
    ".mp1": b"\xff\xff\x80\xc0".ljust(4 * (12 * 256_000 // 44_100), b"\0"),
    ".mp2": b"\xff\xfd\x80\xc0".ljust(144 * 128_000 // 44_100, b"\0"),
}


def encoded(suffix: str, seed: int = 0) -> bytes:
    if suffix in SILENT_FRAMES:
        return SILENT_FRAMES[suffix] * (60 + seed)
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(0.5, seed), 16_000, format=FORMATS[suffix], subtype=LOSSY.get(suffix))
    return buffer.getvalue()


def test_each_suffix_that_libsndfile_reads_is_read_in_folders_and_tars(tmp_path):
    assert set(SUFFIXES) == set(FORMATS) and not set(SUFFIXES) & {*REFUSED_SUFFIXES, *UNREAD_SUFFIXES}
    (tmp_path / "in").mkdir()
    files = {f"x{i:02}{suffix}": encoded(suffix, i) for i, suffix in enumerate(SUFFIXES)}
    for name, data in files.items():
        (tmp_path / "in" / name.upper() if ".s" in name else tmp_path / "in" / name).write_bytes(data)
    archive = tar_of(tmp_path / "x.tar", files)
    for source in (tmp_path / "in", archive):
        result = prepare([source], tmp_path / f"store_{source.name}", "pcm16", workers=1)
        assert (result["records"], result["rejected"], result["passed_over"]) == (len(SUFFIXES), 0, {})
        store = Store(tmp_path / f"store_{source.name}")
        for i, row in enumerate(store.records()):
            wave, rate = soundfile.read(io.BytesIO(files[row["source"].lower()]), dtype="float32")
            if rate == 16_000:
                np.testing.assert_allclose(store.read(i) * 32_768, audio.to_int16(wave), atol=1)
            assert len(store.read(i)) == round(len(wave) * 16_000 / rate) and row["rate"] == rate


def test_the_documents_list_what_is_read():
    (row,) = [line for line in pages.text("manifests.md").splitlines() if line.startswith("| folder |")]
    read, refused = row.split("are left out")
    assert set(re.findall(r"\.\w+", read)) == set(SUFFIXES)
    assert set(re.findall(r"\.\w+", refused.partition(":")[0])) == set(REFUSED_SUFFIXES)


def speex() -> bytes:
    """An Ogg page, of its own stream, with the header of Speex."""
    body = b"Speex   1.2".ljust(80, b"\0")
    page = struct.pack("<4sBBqIII", b"OggS", 0, ogg.BEGIN | ogg.END, 0, 7, 0, 0) + bytes([1, len(body)]) + body
    return page[:22] + struct.pack("<I", ogg.crc(page)) + page[26:]


FOREIGN = {  # the first bytes of files that libsndfile does not read, and what the line says
    ".m4a": (b"\0\0\0\x20ftypM4A \0\0\0\0", "MPEG-4"),
    ".mp4": (b"\0\0\0\x18ftypmp42\0\0\0\0", "MPEG-4"),
    ".aac": (b"\xff\xf1\x50\x80\x02\x1f\xfc", "AAC"),
    ".wma": (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9", "Windows Media"),
    ".amr": (b"#!AMR\n\x3c\x91", "AMR"),
    ".webm": (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81", "WebM"),
    ".wv": (b"wvpk\x10\0\0\0", "WavPack"),
    ".ape": (b"MAC \x96\x0f", "Monkey's Audio"),
    ".spx": (speex(), "Ogg Speex"),
    ".sph": (
        b"NIST_1A\n   1024\nsample_count -i 9999\nsample_n_bytes -i 2\nchannel_count -i 1\nsample_rate -i 16000\n"
        b"sample_byte_format -s2 01\nsample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n",
        "packed by Shorten",
    ),
}


@pytest.mark.parametrize("suffix", FOREIGN)
def test_audio_that_is_not_read_is_named_whatever_lists_it(suffix, tmp_path):
    head, words = FOREIGN[suffix]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / f"x{suffix}").write_bytes(head.ljust(0 if suffix == ".spx" else 2000, b"\0"))
    (tmp_path / "m.jsonl").write_text('{"path": "in/x%s"}\n' % suffix)  # noqa: UP031 (the text is JSON)
    with pytest.raises(UserError, match=rf"unreadable: .*{words}.*, which is not read; convert it: (ffmpeg|sph2pipe) "):
        prepare([tmp_path / "m.jsonl"], tmp_path / "store", workers=1)
    listed = suffix in SUFFIXES + REFUSED_SUFFIXES
    with pytest.raises(UserError, match=r"convert it: " if listed else rf"not read: 1 \{suffix} .* ffmpeg -i IN OUT"):
        prepare([tmp_path / "in"], tmp_path / "other", workers=1)


def test_nothing_that_is_read_has_the_name_of_something_else():
    assert not [suffix for suffix in SUFFIXES if foreign.named(encoded(suffix)[:1024])]


def test_a_tree_of_m4a_is_one_line(tmp_path, capsys):
    """As VoxCeleb 2 is published."""
    for i in range(3):
        (tmp_path / "in" / "id00012" / "abc").mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / "id00012" / "abc" / f"0000{i}.m4a").write_bytes(FOREIGN[".m4a"][0] + bytes(99))
    assert main(["prepare", "--input", str(tmp_path / "in"), "--out", str(tmp_path / "store"), "--workers", "1"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "3 of 3 recordings rejected" in error and "MPEG-4 (m4a, mp4), which is not read; convert it" in error
