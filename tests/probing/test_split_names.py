"""Where a folder of labelled recordings has the manifest of a split."""

import pytest

from jepa_speech.errors import UserError
from jepa_speech.probing.splits import manifests_of

SPLIT_NAMES = {
    "train.manifest.jsonl": ["train.manifest.jsonl", "train.jsonl", "train.tsv", "train/"],
    "train.manifest.csv": ["train.manifest.csv", "train.csv"],
    "train.tsv": ["train.tsv", "train.wrd", "train.ltr", "dev.tsv", "validated.tsv", "train/"],
    "train.jsonl.gz": ["train.jsonl.gz", "train.txt"],
    "train_manifest.json": ["train_manifest.json", "dev_manifest.json", "train_clean_manifest.json"],
    "x_cuts_train.jsonl.gz": ["x_cuts_train.jsonl.gz", "x_supervisions_train.jsonl.gz", "x_recordings_train.jsonl.gz"],
    "train-00000-of-00001.parquet": ["train-00000-of-00001.parquet", "test-00000-of-00001.parquet"],
    "train-00000-of-00001-a09b74b3ef9c3b56.parquet": ["train-00000-of-00001-a09b74b3ef9c3b56.parquet", "train.txt"],
    "train": ["train/", "test/", "mytrain.csv", "train.csv.bak", ".train.csv"],
    "data/train": ["data/", "data/train/", "test.csv"],
    "none": ["test.csv", "sid.train.manifest.jsonl"],
}
UNCLEAR = {
    "train.csv and train.json could each be the split": ["train.csv", "train.json"],
    "dev.tsv and valid.tsv could each be the split": ["dev.tsv", "valid.tsv"],
    "2 of 3 shards like train-00000-of-00003.parquet": [f"train-0000{i}-of-00003.parquet" for i in (0, 2)],
    "1 of 2 shards like train-00001-of-00002-beef.parquet": ["train-00001-of-00002-beef.parquet"],
    "train-00000-of-00002.parquet could each be": ["train-00000-of-00001.parquet", "train-00000-of-00002.parquet"],
}


@pytest.mark.parametrize("words", UNCLEAR)
def test_names_of_a_split_that_are_not_clear(words, tmp_path):
    for name in UNCLEAR[words]:
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=words):
        manifests_of(tmp_path, "valid" if "dev" in words else "train")


@pytest.mark.parametrize("wanted", SPLIT_NAMES)
def test_where_a_split_is(wanted, tmp_path):
    for name in SPLIT_NAMES[wanted]:
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).touch()
    if wanted == "none":
        with pytest.raises(UserError, match=r"train.manifest.jsonl: no such file, nor train with .tsv"):
            manifests_of(tmp_path, "train")
        with pytest.raises(UserError, match=r"nor valid \(also dev, validation, val\) with .tsv"):
            manifests_of(tmp_path, "valid")
        assert manifests_of(tmp_path, "train", "sid.") == [tmp_path / "sid.train.manifest.jsonl"]
    else:
        assert manifests_of(tmp_path, "train") == [tmp_path / wanted]
    if wanted == "train.tsv":
        assert manifests_of(tmp_path, "valid") == [tmp_path / "dev.tsv"]
    if wanted == "train_manifest.json":
        assert manifests_of(tmp_path, "valid") == [tmp_path / "dev_manifest.json"]
