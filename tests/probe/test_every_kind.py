"""One file gives the same segments, samples and texts in `prepare`, `transcribe --manifest` and `probe`."""

import argparse
import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import soundfile
from tones import tone
from writers import jsonl, tar_of

from jepa_speech.cli import transcribe
from jepa_speech.data.audio import FULL_SCALE
from jepa_speech.data.prepare import prepare
from jepa_speech.data.store import Store
from jepa_speech.data.transcripts import texts
from jepa_speech.probe import asr, evaluate
from jepa_speech.probe.dataset import wave_of

CUT = {"id": "c", "type": "MonoCut", "start": 0.5, "duration": 0.75, "channel": 0,
       "supervisions": [{"start": 0.0, "duration": 0.75, "text": "a Cut", "speaker": "s2"}],
       "recording": {"id": "r", "sampling_rate": 16_000, "num_samples": 24_000, "duration": 1.5,
                     "sources": [{"type": "file", "channels": [0], "source": "audio/b.wav"}]}}  # fmt: skip
WHOLE = ("audio/a.wav", 0.0, None, "one two")
SECOND = ("audio/b.wav", 0.0, None, "drei, vier")
PART = ("audio/b.wav", 0.5, 0.75, "a cut")


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def as_rows(folder, split):
    """The released code's keys and NeMo's; null; an empty line; CRLF; a byte order mark; a text of other letters."""
    rows = [
        {"audio_path": "audio/a.wav", "text": "One two", "speaker": "s1", "duration": 1.0},
        {"audio_filepath": "audio/b.wav", "text": "Drei,  vier", "speaker": None, "offset": None},
        {"wav_path": "./audio/b.wav", "offset": 0.5, "duration": 0.75, "text": "a Cut"},
    ]
    lines = [json.dumps(row) for row in rows]
    (folder / f"{split}.manifest.jsonl").write_bytes("\r\n".join([*lines[:1], "", *lines[1:]]).encode("utf-8-sig"))
    return folder / f"{split}.manifest.jsonl", [WHOLE, SECOND, PART]


def as_packed_rows(folder, split):
    path, expected = as_rows(folder, split)
    (folder / f"{split}.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return folder / f"{split}.jsonl.gz", expected


def as_cuts(folder, split):
    return jsonl(folder / f"{split}.jsonl", [CUT]), [PART]


def as_fairseq(folder, split):
    write(folder / f"{split}.wrd", "One two\nDrei, vier\n")
    return write(folder / f"{split}.tsv", ".\naudio/a.wav\t16000\naudio/b.wav\t24000\n"), [WHOLE, SECOND]


def as_kaldi(folder, split):
    data = folder / split
    write(data / "wav.scp", "r1 audio/a.wav\nr2 audio/b.wav\n")
    write(data / "segments", "u2 r2 0.5 1.25\nu1 r1 0 -1\n")
    write(data / "text", "u1 One two\nu2 a  Cut\n")
    return data, [PART, WHOLE]


def as_tar(folder, split):
    files = {"audio/a.wav": (folder / "audio" / "a.wav").read_bytes(), "audio/a.txt": b"One two"}
    files |= {"audio/b.wav": (folder / "audio" / "b.wav").read_bytes(), "audio/b.json": b'{"text": "Drei, vier"}'}
    return tar_of(folder / f"{split}.tar", files), [WHOLE, SECOND]


def as_parquet(folder, split):
    names = ["audio/a.wav", "audio/b.wav"]
    audio = [{"bytes": (folder / name).read_bytes(), "path": name} for name in names]
    for number in range(2):  # shards, as Hugging Face names them
        table = pyarrow.table({"audio": audio[number:][:1], "text": ["One two", "Drei, vier"][number:][:1]})
        pyarrow.parquet.write_table(table, folder / f"{split}-0000{number}-of-00002.parquet")
    return sorted(folder.glob(f"{split}-*.parquet")), [WHOLE, SECOND]


KINDS = [as_rows, as_packed_rows, as_cuts, as_fairseq, as_kaldi, as_tar, as_parquet]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "audio").mkdir()
    soundfile.write(tmp_path / "audio" / "a.wav", tone(1.0), 16_000)
    soundfile.write(tmp_path / "audio" / "b.wav", tone(1.5, 1), 16_000)
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
def test_every_verb_finds_the_same(kind, folder):
    inputs, expected = kind(folder, "train")
    for split in ("valid", "test"):
        kind(folder, split)
    inputs = inputs if isinstance(inputs, list) else [inputs]
    assert prepare(inputs, folder / "store", "pcm16", workers=1, root=folder)["rejected"] == 0
    store = Store(folder / "store")
    samples = [store.read(number) for number in range(len(store))]
    sources = [row["source"].removeprefix("./") for row in store.records()]
    assert list(zip(sources, texts(store), strict=True)) == [(source, text) for source, *_, text in expected]
    for wave, (source, start, seconds, _) in zip(samples, expected, strict=True):
        first = round(16_000 * start)
        whole, _ = soundfile.read(folder / source, dtype="float32")
        cut = whole[first:] if seconds is None else whole[first : first + round(16_000 * seconds)]
        np.testing.assert_allclose(wave, cut - cut.mean(), atol=1 / FULL_SCALE)

    for utterances in asr.read(folder, folder).values():
        assert [u.target for u in utterances] == [text for *_, text in expected]
        assert [u.speaker for u in utterances] == [row.get("speaker", "") for row in store.records()]
        for utterance, wave in zip(utterances, samples, strict=True):
            np.testing.assert_array_equal(wave_of(utterance.entry), wave)
    for path in inputs:
        options = argparse.Namespace(manifest=str(path), audio=[], root=str(folder))
        listed, _, rows = transcribe.recordings(options)
        for entry, row in zip(listed, rows, strict=True):
            np.testing.assert_array_equal(wave_of(entry), samples.pop(0))
            source, start, seconds, text = expected.pop(0)
            place = {"offset": start, "duration": seconds} if seconds else {}
            assert row | {"audio_path": row["audio_path"].removeprefix("./")} == {
                "audio_path": source, "text": text, **place}  # fmt: skip
    assert not samples and "asr" in evaluate.TASKS
