"""A folder of recordings whose metadata is in a folder above it, as in Hugging Face's datasets with splits."""

import json
from pathlib import Path

import pytest
from support.audio_files import write_tones

from jepa_speech.errors import UserError
from jepa_speech.ingest.manifest import entries

ROWS = ["train/tone000.wav,one", "train/tone001.wav,two", "test/tone000.wav,three"]


@pytest.fixture
def dataset(tmp_path):
    """DIR/train with three recordings, of which two are named in DIR/metadata.csv, and DIR/test with one."""
    write_tones(tmp_path / "train", 3)
    write_tones(tmp_path / "test", 1)
    written(tmp_path, ROWS)
    return tmp_path


def written(folder: Path, rows: list[str]) -> None:
    (folder / "metadata.csv").write_text("\n".join(["file_name,sentence", *rows]) + "\n")


def texts(folder: Path) -> dict[str, str | None]:
    """The name of each recording with its text, or the reason why it cannot be used."""
    return {entry.source or str(entry.line): entry.reason or entry.labels.get("text") for entry in entries([folder])}


TRAIN = {"tone000.wav": "one", "tone001.wav": "two", "tone002.wav": None}


def test_its_rows_are_those_of_the_folder(dataset, monkeypatch):
    assert texts(dataset / "train") == TRAIN and texts(dataset / "test") == {"tone000.wav": "three"}
    assert len(texts(dataset)) == 4
    monkeypatch.chdir(dataset / "test")
    assert texts(Path("../train")) == TRAIN


def test_it_may_be_above_a_folder_named_data(dataset):
    (dataset / "data").mkdir()
    (dataset / "train").rename(dataset / "data" / "train")
    written(dataset, [f"data/{row}" for row in ROWS])
    assert texts(dataset / "data" / "train") == TRAIN
    (dataset / "data").rename(dataset / "other")
    written(dataset, [f"other/{row}" for row in ROWS])
    assert set(texts(dataset / "other" / "train").values()) == {None}


def test_the_folder_s_own_comes_first(dataset):
    written(dataset / "train", ["tone002.wav,own"])
    assert texts(dataset / "train") == dict.fromkeys(TRAIN) | {"tone002.wav": "own"}


@pytest.mark.parametrize("reads", [True, False])
def test_wrong_rows_count_if_any_row_is_of_the_folder(reads, dataset):
    written(dataset, [*(ROWS if reads else ROWS[2:]), "a,b,c", "train/gone.wav,x"][: 4 + reads if reads else 2])
    found = texts(dataset / "train")
    if reads:
        assert found == TRAIN | {"gone.wav": "missing", "5": "bad_row"}
    else:
        assert found == dict.fromkeys(TRAIN)


def test_a_split_that_is_a_link_and_a_recording_that_is_one(dataset, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (dataset / "train").rename(elsewhere / "train")
    (dataset / "train").symlink_to(elsewhere / "train")
    assert texts(dataset / "train") == TRAIN
    (elsewhere / "train" / "tone001.wav").unlink()
    (elsewhere / "train" / "tone001.wav").symlink_to(dataset / "test" / "tone000.wav")
    assert texts(dataset / "train") == TRAIN | {"tone001.wav": "outside_root"}


def test_two_of_them_are_one_line(dataset):
    (dataset / "metadata.jsonl").write_text(json.dumps({"file_name": "train/tone000.wav"}) + "\n")
    with pytest.raises(UserError, match=r"has metadata.csv and metadata.jsonl; .*remove one"):
        texts(dataset / "train")
