"""Tables of audio whose cells, labels or bytes are not what they should be."""

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from support.audio_files import write_tones

from jepa_speech.errors import UserError
from jepa_speech.ingest.inputs import lines
from jepa_speech.ingest.manifest import entries
from jepa_speech.ingest.recording import recording
from jepa_speech.store.checking import check
from jepa_speech.store.prepare import prepare


@pytest.fixture
def corpus(tmp_path):
    """corpus/ with audio/, two recordings."""
    write_tones(tmp_path / "corpus" / "audio", 2)
    return tmp_path / "corpus"


def test_a_table_that_expands_absurdly(corpus, monkeypatch):
    monkeypatch.setattr(lines, "EXPANSION", (1 << 20, 200))
    table = pyarrow.table({"audio": [{"bytes": bytes(4 << 20), "path": "a.wav"}], "text": ["x"]})
    pyarrow.parquet.write_table(table, corpus / "x.parquet", compression="zstd")
    with pytest.raises(UserError, match=r"audio.bytes is refused as a decompression bomb"):
        list(entries([corpus / "x.parquet"]))


BYTES = pyarrow.binary()
CELLS = {  # of the struct's bytes, and of its path
    "integers": (pyarrow.int64(), 7, "a.wav"),
    "text": (pyarrow.string(), "RIFF", "a.wav"),
    "lists": (pyarrow.list_(pyarrow.uint8()), [1, 2], "a.wav"),
    "dates": (pyarrow.timestamp("us"), 0, "a.wav"),
    "structs": (pyarrow.struct([("x", BYTES)]), {"x": b"1"}, "a.wav"),
    "null": (BYTES, None, None),
    "empty": (BYTES, b"", ""),
    "of one size": (pyarrow.binary(4), b"RIFF", "a.wav"),
}


@pytest.mark.parametrize("case", CELLS)
def test_cells_that_are_no_audio_are_rejects(case, corpus):
    """Whatever type they are of; the other inputs are stored."""
    kind, cell, path = CELLS[case]
    audio = pyarrow.array(
        [{"bytes": cell, "path": path}] * 2 + [None], pyarrow.struct([("bytes", kind), ("path", pyarrow.string())])
    )
    pyarrow.parquet.write_table(pyarrow.table({"audio": audio, "text": ["x", None, "y"]}), corpus / "x.parquet")
    inputs = [corpus / "audio", corpus / "x.parquet"]
    result = prepare(inputs, corpus / "store", workers=1, max_reject_fraction=1.0)
    assert (result["records"], result["rejected"]) == (2, 3) and set(result["reasons"]) <= {"damaged", "unreadable"}
    found = check(inputs, full=True)
    assert found["reasons"] == result["reasons"] and [row["line"] for row in found["rejects"]] == [1, 2, 3]


def broken_text(*words: bytes) -> pyarrow.Array:
    """A column of text of which some is not UTF-8, as no writer should make it and some do."""
    ends = np.cumsum([0, *map(len, words)]).astype("<i4")
    return pyarrow.Array.from_buffers(
        pyarrow.string(), len(words), [None, pyarrow.py_buffer(ends), pyarrow.py_buffer(b"".join(words))]
    )


@pytest.mark.parametrize("nested", [False, True])
def test_a_label_of_a_table_that_is_not_utf8_is_a_reject(nested, corpus):
    wav = (corpus / "audio" / "tone000.wav").read_bytes()
    text = broken_text(b"one", b"caf\xe9", b"three")
    column = pyarrow.StructArray.from_arrays([text], ["a"]) if nested else text
    audio = pyarrow.array([{"bytes": wav, "path": f"{i}.wav"} for i in range(3)])
    pyarrow.parquet.write_table(pyarrow.table({"audio": audio, "said": column}), corpus / "x.parquet")
    found = list(entries([corpus / "x.parquet"]))
    assert [(entry.source, entry.reason) for entry in found] == [("0.wav", ""), ("1.wav", "bad_label"), ("2.wav", "")]
    assert "its said is not UTF-8 (byte 0xe9)" in found[1].detail
    assert found[2].labels == {"said": {"a": "three"} if nested else "three"}


@pytest.mark.parametrize("offset", [60, -40])
def test_a_damaged_table(corpus, offset):
    wav = (corpus / "audio" / "tone000.wav").read_bytes()
    table = pyarrow.table({"audio": [{"bytes": wav, "path": "a.wav"}, {"bytes": None, "path": "b.wav"}]})
    path = corpus / "x.parquet"
    pyarrow.parquet.write_table(table, path, compression="none")
    good, empty = (recording(entry, "pcm16")[0] for entry in entries([path]))
    assert "reason" not in good and empty["reason"] == "damaged"
    data = bytearray(path.read_bytes())
    data[offset:] = bytes(len(data[offset:]))
    path.write_bytes(data)
    with pytest.raises(UserError, match="damaged parquet"):
        list(entries([path]))
