"""What is named like a resource fork in the current folder does not change how audio is read."""

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import soundfile
from support.audio_files import tone
from support.input_writers import tar_of

from jepa_speech.ingest.audio import load
from jepa_speech.ingest.containers import mp3
from jepa_speech.ingest.manifest import entries

STRAY = {
    "an empty file": lambda: Path("._").touch(),
    "a file": lambda: Path("._").write_bytes(b"some notes"),
    "a folder": lambda: Path("._").mkdir(),
    "a folder of Netatalk": lambda: Path(".AppleDouble").mkdir(),
    "a fork": lambda: (soundfile.write("x.sd2", tone(0.2), 16_000, format="SD2"), Path("._x.sd2").rename("._")),
}


def encoded(kind: str, **how) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, tone(1.0), 16_000, format=kind, **how)
    return file.getvalue()


@pytest.fixture(scope="module")
def recordings() -> dict[str, bytes]:
    """An MP3 without a tag, with one, and with several bit rates and no count of frames; other formats."""
    plain = encoded("MP3")
    several = encoded("MP3", bitrate_mode="VARIABLE", compression_level=0.5)
    uncounted = several[mp3._frame(several[:4])[1] :]
    assert mp3._missing_count(io_window(uncounted), 0) and not mp3._missing_count(io_window(plain), 0)
    tagged = b"ID3\x03\0\0\0\0\0\x14TIT2\0\0\0\x0a\0\0\0our title" + plain
    found = {"plain.mp3": plain, "tagged.mp3": tagged, "uncounted.mp3": uncounted}
    return found | {f"x.{kind.lower()}": encoded(kind) for kind in ("WAV", "FLAC", "OGG", "AIFF", "AU", "CAF", "W64")}


def io_window(data: bytes) -> mp3.Window:
    return mp3.Window(lambda count, offset: data[offset : offset + count], len(data))


@pytest.mark.parametrize("stray", STRAY)
def test_files_and_members_are_read_as_without_it(stray, recordings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "audio"
    folder.mkdir()
    for name, data in recordings.items():
        (folder / name).write_bytes(data)
    archive = tar_of(tmp_path / "x.tar", dict(sorted(recordings.items())))
    rows = [{"audio": {"bytes": data, "path": name}} for name, data in sorted(recordings.items())]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "x.parquet")
    listed = [list(entries([source])) for source in (folder, archive, tmp_path / "x.parquet")]
    expected = [load(entry) for entry in listed[0]]
    STRAY[stray]()
    for found in listed:
        assert [Path(entry.source).name for entry in found] == sorted(recordings)
        for entry, wave in zip(found, expected, strict=True):
            np.testing.assert_array_equal(load(entry), wave)
