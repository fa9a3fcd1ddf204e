"""Labels from every kind of input: kept as they are written, and never in place of what the store measured."""

import json
import math
from pathlib import Path

import pyarrow.parquet
import pytest
from support.audio_files import write_tones
from support.input_writers import jsonl, tar_of

from jepa_speech.ingest.inputs.entry import NAMES, STORE_KEYS
from jepa_speech.ingest.inputs.rows import PATH_KEYS
from jepa_speech.ingest.manifest import entries
from jepa_speech.store.checking import check
from jepa_speech.store.inspection import describe
from jepa_speech.store.prepare import prepare
from jepa_speech.store.store import Store


def as_rows(folder, wav, labels):
    return jsonl(folder / "m.jsonl", [{"path": wav.name, "offset": 0.05} | labels])


def as_sidecar(folder, wav, labels):
    return tar_of(folder / "x.tar", {"a.wav": wav.read_bytes(), "a.json": json.dumps(labels).encode()})


def as_table(folder, wav, labels):
    audio = {"bytes": wav.read_bytes(), "path": "a.wav"}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"audio": audio} | labels]), folder / "x.parquet")
    return folder / "x.parquet"


KINDS = [as_rows, as_sidecar, as_table]
VALUES = {"text": "0:05", "number": 12.5, "list": [1, 2], "negative": -3, "flag": True}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", VALUES)
def test_no_label_takes_the_place_of_a_measured_field(kind, value, tmp_path):
    (wav,) = write_tones(tmp_path, 1)
    claimed = dict.fromkeys(STORE_KEYS - ({"duration"} if kind is as_rows else set()), VALUES[value])
    source = kind(tmp_path, wav, claimed | {"text": "x", "split": VALUES[value]})
    prepare([source], tmp_path / "store", workers=1)
    (row,) = Store(tmp_path / "store").records()
    assert row["id"] == 0 and row["rate"] == 16_000 and row["source"] in ("a.wav", wav.name) and row["text"] == "x"
    assert row["duration"] == pytest.approx(Store(tmp_path / "store").samples[0] / 16_000, abs=1e-4)
    assert row.get("start") == (0.05 if kind is as_rows else None)
    assert row["split"] == VALUES[value]
    assert {key: row[f"manifest_{key}"] for key in claimed} == claimed
    assert describe(Store(tmp_path / "store"))["rates"] == {"16000": 1}
    assert check([source], full=True)["hours"] == pytest.approx(row["duration"] / 3600)


def test_both_names_of_a_label_are_kept(tmp_path):
    (wav,) = write_tones(tmp_path, 1)
    said = {"id": "a", "manifest_id": "b", "manifest_manifest_id": "c"}
    (entry,) = entries([jsonl(tmp_path / "m.jsonl", [{"path": wav.name} | said])])
    assert sorted(entry.labels.values()) == ["a", "b", "c"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("absent", [None, math.nan, math.inf])
def test_absent_is_absent(kind, absent, tmp_path):
    (wav,) = write_tones(tmp_path, 1)
    source = kind(tmp_path, wav, {"text": None, "speaker": "s", "snr": absent})
    (entry,) = entries([source])
    assert entry.labels == {"speaker": "s"} and not entry.reason


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("absent", [math.nan, math.inf, -math.inf])
def test_a_store_has_valid_json_whatever_is_within_a_label(kind, absent, tmp_path):
    """Values within a list keep their places."""
    (wav,) = write_tones(tmp_path, 1)
    said = {"pitch": [1.5, absent, 2.0], "frames": [{"f0": absent, "voiced": True}], "list": [[absent], [3.0]]}
    prepare([kind(tmp_path, wav, said)], tmp_path / "store", workers=1)
    text = (tmp_path / "store" / "records.jsonl").read_text()
    row = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    expected = {"pitch": [1.5, None, 2.0], "frames": [{"f0": None, "voiced": True}], "list": [[None], [3.0]]}
    assert {key: row[key] for key in said} == expected


def nested(levels: int):
    value = "x"
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


@pytest.mark.parametrize("kind", [as_rows, as_sidecar])
def test_labels_nested_too_deep_are_a_reject(kind, tmp_path):
    """They could be read here and yet not be written, or not be read again by a worker."""
    (wav,) = write_tones(tmp_path, 1)
    for levels in (99, 100, 101, 300):
        source = kind(tmp_path, wav, {"slots": nested(levels)})
        (entry,) = entries([source])
        assert entry.reason == ("bad_label" if levels > 100 else "")
        result = check([source])
        assert result["reasons"] == ({"bad_label": 1} if levels > 100 else {})


def test_start_and_end_alone_make_no_segment(tmp_path):
    (wav,) = write_tones(tmp_path, 1)
    (entry,) = entries([jsonl(tmp_path / "m.jsonl", [{"path": wav.name, "start": 0.05, "end": 0.1}])])
    assert not entry.is_segment and entry.labels == {"manifest_start": 0.05, "end": 0.1}


@pytest.mark.parametrize(("ours", "theirs", "value"), [("text", key, "Words") for key in NAMES["text"][0]]
                         + [("speaker", key, value) for key in NAMES["speaker"][0] for value in ("s1", 7)])  # fmt: skip
def test_others_names_of_a_text_and_a_speaker(ours, theirs, value, tmp_path):
    write_tones(tmp_path, 1)
    assert f"`{theirs}`" in (Path(__file__).parents[3] / "docs" / "manifests.md").read_text(encoding="utf-8")
    path = {"path": "tone000.wav"}
    for row, labels in (
        ({theirs: value}, {ours: value}),
        ({ours: None, theirs: value}, {ours: value}),
        ({ours: "own", theirs: value}, {ours: "own", theirs: value}),
        ({ours: "", theirs: value}, {ours: "", theirs: value}),
        ({theirs: [value]}, {theirs: [value]}),  # words with their times, speakers of a dialogue
        ({theirs: True}, {theirs: True}),
    ):
        (entry,) = entries([jsonl(tmp_path / "m.jsonl", [path | row])])
        assert entry.labels == labels and not entry.reason


@pytest.mark.parametrize("key", PATH_KEYS)
def test_every_name_of_a_path_is_documented(key, tmp_path):
    write_tones(tmp_path, 1)
    assert f"`{key}`" in (Path(__file__).parents[3] / "docs" / "manifests.md").read_text(encoding="utf-8")
    for value in ("tone000.wav", {"path": "tone000.wav", "sampling_rate": 16_000}):
        (entry,) = entries([jsonl(tmp_path / "m.jsonl", [{key: value, "x": 1}])])
        assert (entry.source, entry.reason, entry.labels) == ("tone000.wav", "", {"x": 1})
