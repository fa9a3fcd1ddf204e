"""Values of any type in every key of a manifest, and random bytes: no reader crashes, and each row is named."""

import json

import numpy as np
import pytest
from support.audio_files import write_tones
from support.input_writers import jsonl

from jepa_speech.errors import UserError
from jepa_speech.ingest.manifest import entries
from jepa_speech.store.checking import check
from jepa_speech.store.prepare import prepare
from jepa_speech.store.store import Store


@pytest.fixture
def corpus(tmp_path):
    write_tones(tmp_path / "audio", 2)
    return tmp_path


WEIRD = [
    None,
    True,
    0,
    -1,
    1e400,
    10**30,
    -(10**400),
    float("nan"),
    "",
    "x",
    "\0",
    "\ud800",
    [],
    [1],
    [[]],
    {},
    {"a": [1]},
]
ROWS = [
    {"audio_filepath": "audio/tone000.wav", "offset": 0.0, "duration": 0.1, "text": "x"},
    {
        "id": "a", "start": 0.0, "duration": 0.1, "channel": 0, "type": "MonoCut",
        "supervisions": [{"text": "x", "speaker": "y", "start": 0.0, "duration": 0.1, "channel": 0}],
        "recording": {"duration": 1.0, "sources": [{"type": "file", "channels": [0], "source": "audio/tone000.wav"}]},
    },
]  # fmt: skip


def with_each_value_replaced(node):
    """Copies of a JSON value in which one value, at any depth, is something else."""
    yield from WEIRD
    for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        for other in with_each_value_replaced(node[key]):
            copy = json.loads(json.dumps(node))
            copy[key] = other
            yield copy


OTHERS = {
    "speechbrain": {"wav": {"file": "{root}/audio/tone000.wav", "start": 0, "stop": 1600}, "words": "x", "duration": 1},
    "wenet": {"key": "a", "wav": "audio/tone000.wav", "txt": "x", "start": 0.0, "end": 0.1},
    "supervision": {"recording_id": "r", "id": "s", "start": 0.0, "duration": 0.1, "channel": 0, "text": "x"},
    "recording": {"id": "r", "sources": [{"type": "file", "channels": [0], "source": "audio/tone000.wav"}],
                  "sampling_rate": 16_000, "duration": 0.2, "channel_ids": [0]},
    "array": {"audio": {"path": "audio/tone000.wav"}, "offset": 0.0, "duration": 0.1, "sentence": "x"},
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_no_value_of_any_key_crashes_other_readers(kind, corpus):
    """Before and behind each are sound rows, which are read."""
    row = OTHERS[kind]
    rows = [row, *with_each_value_replaced(row), row]
    path = corpus / {"speechbrain": "m.json", "array": "m.json", "wenet": "data.list"}.get(kind, f"{kind}s.jsonl")
    if kind == "speechbrain":
        path.write_text(json.dumps({f"u{i}": one for i, one in enumerate(rows)}))
    elif kind == "array":
        path.write_text(json.dumps(rows))
    else:
        jsonl(path, rows)
    if kind == "supervision":
        jsonl(corpus / "recordings.jsonl", [OTHERS["recording"]])
    found = list(entries([path]))
    assert len(found) == len(rows) > 50 and found[0].reason == found[-1].reason == ""
    assert all(bool(entry.detail) == bool(entry.reason) for entry in found)


@pytest.mark.parametrize("row", ROWS, ids=["flat", "cut"])
def test_no_value_of_any_key_crashes_the_reader(row, corpus):
    rows = list(with_each_value_replaced(row))
    result = prepare([jsonl(corpus / "m.jsonl", [row, *rows])], corpus / "store", workers=1, max_reject_fraction=1.0)
    assert result["read"] == len(rows) + 1 > 70 and 0 < result["records"] < len(rows)
    kept = list(Store(corpus / "store").records())
    assert kept[0]["text"] == "x" and all("reason" in one or one["duration"] > 0 for one in kept)
    assert check([corpus / "m.jsonl"], full=True)["reasons"] == result["reasons"]


@pytest.mark.parametrize("name", ["m.csv", "cv.tsv", "m.json", "array.json", "supervisions.jsonl"])
def test_random_bytes_behind_a_sound_head_end_in_one_line_at_most(name, corpus):
    head = {
        "m.csv": b"ID,wav,text\na,audio/tone000.wav,x\n",
        "cv.tsv": b"client_id\tpath\tsentence\na\taudio/tone000.wav\tx\n",
        "m.json": b'{"a": {"wav": "audio/tone000.wav"}, ',
        "array.json": b'[{"path": "audio/tone000.wav"}, ',
        "supervisions.jsonl": b'{"recording_id": "r", "id": "s", "start": 0, "duration": 0.1}\n',
    }[name]
    jsonl(corpus / "recordings.jsonl", [OTHERS["recording"]])
    random = np.random.default_rng(1)
    alphabet = np.frombuffer(b'a0.1-\t,\t  \n\r\n|:/{}[]"",\\\xff\x00', np.uint8)
    for _ in range(100):
        (corpus / name).write_bytes(head + random.choice(alphabet, 200).tobytes())
        try:
            found = entries([corpus / name])
            first = next(found)
            assert not first.reason, first.detail
            list(found)
        except UserError as error:
            assert str(error).startswith(f"{corpus}/") and "\n" not in str(error)


@pytest.mark.parametrize("name", ["m.tsv", "m.jsonl", "segments", "wav.scp"])
def test_random_bytes_crash_no_reader(name, corpus):
    random = np.random.default_rng(0)
    alphabet = np.frombuffer(b'a0.1-\t\t  \n\n|:/{}[]",\\\xff\x00', np.uint8)
    for _ in range(100):
        text = random.choice(alphabet, 300).tobytes()
        (corpus / "wav.scp").write_bytes(b"a audio/tone000.wav\n" * (name == "segments"))
        (corpus / name).write_bytes((b".\na\t1\n" if name == "m.tsv" else b"a a 0 1\n") + text)
        list(entries([corpus if name in ("segments", "wav.scp") else corpus / name]))
