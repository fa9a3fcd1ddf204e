"""One file gives the same segments, samples and texts in `prepare`, `transcribe --manifest` and `probe`."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import soundfile
from support.audio_files import tone
from support.input_writers import jsonl, tar_of

from jepa_speech.api import transcribe
from jepa_speech.batches.transcripts import texts
from jepa_speech.ingest.audio import FULL_SCALE
from jepa_speech.probing import asr
from jepa_speech.probing.dataset import wave_of
from jepa_speech.store.prepare import prepare
from jepa_speech.store.store import Store

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


def as_common_voice(folder, split):
    """Paths are in clips/; quotes are part of a sentence."""
    (folder / "clips").mkdir(exist_ok=True)
    for name, path in (("cv_1.mp3", "a.wav"), ("cv_2.mp3", "b.wav")):
        shutil.copy(folder / "audio" / path, folder / "clips" / name)  # what a file is shows in its content
    lines = [
        "client_id\tpath\tsentence_id\tsentence\tup_votes\tage\tgender\tlocale",
        "ab12\tcv_1.mp3\t9\tOne two\t2\t\tfemale\ten",
        'cd34\tcv_2.mp3\t8\t"Drei", vier\t2\ttwenties\t\ten',
    ]
    text = "\r\n".join(lines)
    return write(folder / f"{split}.tsv", text), [("cv_1.mp3", *WHOLE[1:]), ("cv_2.mp3", 0.0, None, '"drei", vier')]


def as_speechbrain(folder, split):
    """Recipes of SpeechBrain put a blank after commas, and start and stop are samples."""
    lines = [
        "ID, duration, wav, start, stop, spk_id, wrd",
        "u1, 1.0, $data_root/audio/a.wav, 0, 16000, s1, One two",
        'u2, 1.5, $data_root/audio/b.wav, 0, 24000, s2, "Drei, vier"',
        "u3, 1.5, $data_root/audio/b.wav, 8000, 20000, , a  Cut",
    ]
    expected = [("audio/a.wav", 0.0, 1.0, "one two"), ("audio/b.wav", 0.0, 1.5, "drei, vier"), PART]
    return write(folder / f"{split}.csv", "\n".join(lines)), expected


def as_speechbrain_json(folder, split):
    rows = {
        "u1": {"wav": "{data_root}/audio/a.wav", "length": 1.0, "words": "One two"},
        "u2": {"wav": {"file": "{data_root}/audio/b.wav", "start": 8000, "stop": 20000}, "words": "a Cut", "spk_id": 7},
    }
    return write(folder / f"{split}.json", json.dumps(rows, indent=2)), [WHOLE, PART]


def as_metadata(folder, split):
    data = folder / split
    shutil.copytree(folder / "audio", data / "audio")
    write(data / "metadata.csv", 'file_name,transcription,x\naudio/a.wav,One two,1\naudio/b.wav,"Drei, vier",\n')
    return data, [WHOLE, SECOND]


def as_metadata_rows(folder, split):
    data, expected = as_metadata(folder, split)
    (data / "metadata.csv").unlink()
    rows = [{"file_name": source, "sentence": text} for source, _, _, text in expected]
    jsonl(data / "metadata.jsonl", rows)
    return data, expected


def as_shared_metadata(folder, split):
    """One for all splits, beside their folders."""
    shutil.copytree(folder / "audio", folder / split / "audio")
    with (folder / "metadata.csv").open("a") as file:
        file.write("" if file.tell() else "file_name,transcription\n")
        file.write(f'{split}/audio/a.wav,One two\n{split}/audio/b.wav,"Drei, vier"\n')
    return folder / split, [WHOLE, SECOND]


def as_wenet(folder, split):
    rows = [
        {"key": "u1", "wav": "audio/a.wav", "txt": "One two"},
        {"key": "u2", "wav": "audio/b.wav", "txt": "a cut", "start": 0.5, "end": 1.25},
    ]
    return jsonl(folder / f"{split}.list", rows), [WHOLE, PART]


def as_array(folder, split):
    rows = [{"audio": {"path": "audio/a.wav"}, "sentence": "One two"}, {"file": "audio/b.wav", "text": "Drei, vier"}]
    return write(folder / f"{split}.json", json.dumps(rows)), [WHOLE, SECOND]


def as_any_table(folder, split):
    """With an index, as pandas writes it, NeMo's offset, and a text that holds a line break."""
    lines = [",offset,duration,audio_filepath,transcript", "0,,1.0,audio/a.wav,One two",
             '1,0.5,0.75,audio/b.wav,"a', 'Cut"']  # fmt: skip
    return write(folder / f"{split}.csv", "\ufeff" + "\n".join(lines)), [WHOLE, PART]


def as_lhotse_pair(folder, split):
    recordings = [
        {"id": f"r{number}", "sources": [{"type": "file", "channels": [0], "source": f"audio/{name}.wav"}],
         "sampling_rate": 16_000, "num_samples": int(16_000 * seconds), "duration": seconds, "channel_ids": [0]}
        for number, (name, seconds) in enumerate((("a", 1.0), ("b", 1.5)))
    ]  # fmt: skip
    said = [
        {
            "id": "u1",
            "recording_id": "r0",
            "start": 0.0,
            "duration": 1.0,
            "channel": 0,
            "text": "One two",
            "speaker": 3,
        },
        {"id": "u2", "recording_id": "r1", "start": 0.5, "duration": 0.75, "channel": 0, "text": "a  Cut"},
    ]
    jsonl(folder / f"corpus_recordings_{split}.jsonl.gz", recordings)
    return jsonl(folder / f"corpus_supervisions_{split}.jsonl", said), [WHOLE, PART]


def as_espnet(folder, split):
    data = folder / split
    write(data / "wav.scp", "u1 audio/a.wav\nu2 audio/b.wav\n")
    write(data / "text", "u2 Drei, vier\nu1 One two\n")
    write(data / "spk2utt", "s1 u1\ns2 u2 u3\n")
    write(data / "utt2category", "u1 clean\nu2 noisy\n")
    write(data / "feats_type", "raw\n")
    return data, [WHOLE, SECOND]


KINDS = [
    as_rows, as_packed_rows, as_cuts, as_fairseq, as_kaldi, as_tar, as_parquet, as_common_voice, as_speechbrain,
    as_speechbrain_json, as_metadata, as_metadata_rows, as_shared_metadata, as_wenet, as_array, as_any_table,
    as_lhotse_pair, as_espnet,
]  # fmt: skip


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
        whole, _ = soundfile.read(next(folder.rglob(Path(source).name)), dtype="float32")
        cut = whole[first:] if seconds is None else whole[first : first + round(16_000 * seconds)]
        np.testing.assert_allclose(wave, cut - cut.mean(), atol=1 / FULL_SCALE)

    for utterances in asr.read(folder, folder).values():
        assert [u.target for u in utterances] == [text for *_, text in expected]
        assert [u.speaker for u in utterances] == [str(row.get("speaker", "")) for row in store.records()]
        for utterance, wave in zip(utterances, samples, strict=True):
            np.testing.assert_array_equal(wave_of(utterance.entry), wave)
    for path in inputs:
        listed, _, rows = transcribe.recordings((), path, folder)
        for entry, row in zip(listed, rows, strict=True):
            np.testing.assert_array_equal(wave_of(entry), samples.pop(0))
            source, start, seconds, text = expected.pop(0)
            place = {"offset": start, "duration": seconds} if seconds else {}
            assert row | {"audio_path": row["audio_path"].removeprefix("./")} == {
                "audio_path": source, "text": text, **place}  # fmt: skip
    assert not samples
