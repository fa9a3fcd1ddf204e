"""Samples of an earlier decoder are recognised, and never silently mixed with those of this version."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.audio_files import tone
from support.input_writers import jsonl
from support.older_stores import as_an_older_store

from jepa_speech.cli import main
from jepa_speech.errors import UserError
from jepa_speech.ingest.audio_source import AudioSource
from jepa_speech.probing.cache import Cache
from jepa_speech.store.chunks import sidecar, unfinished
from jepa_speech.store.inspection import describe, verify
from jepa_speech.store.joining import join
from jepa_speech.store.prepare import merge, prepare
from jepa_speech.store.store import Store
from jepa_speech.wording import counted


def corpus(folder: Path, suffix: str, count: int = 4) -> Path:
    folder.mkdir()
    for i in range(count):
        soundfile.write(folder / f"{i}.{suffix}", tone(0.5, i), 16_000)
    return folder


def of_an_earlier_version(store: Path) -> Path:
    assert Store(store).info["decoder"] == 2
    as_an_older_store(store)
    return store


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora")
    for suffix in ("mp3", "wav", "ogg", "flac"):
        corpus(folder / suffix, suffix)
        prepare([folder / suffix], folder / f"{suffix}_store", workers=1)
    rows = [{"path": f"0.{suffix}", "offset": 0.1, "duration": 0.2} for suffix in ("ogg", "flac", "wav")]
    for row in rows:
        suffix = row["path"][2:]
        shutil.copy(folder / suffix / row["path"], folder)
        prepare([jsonl(folder / f"{suffix}.jsonl", [row])], folder / f"{suffix}_segments", workers=1)
    return folder


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("mp3_store", 4), ("wav_store", 0), ("ogg_store", 0), ("ogg_segments", 1), ("flac_segments", 0)],
)
def test_inspect_tells_whether_a_store_must_be_prepared_again(name, wrong, corpora, tmp_path, capsys):
    shutil.copytree(corpora / name, tmp_path / "store")
    found = describe(Store(tmp_path / "store"))
    assert (found["decoder"], found["outdated"]) == (2, 0)
    of_an_earlier_version(tmp_path / "store")
    found = describe(Store(tmp_path / "store"))
    assert (found["decoder"], found["outdated"]) == (1, wrong) and not verify(Store(tmp_path / "store"))
    assert main(["inspect", str(tmp_path / "store")]) == 0
    line = f"of these kinds: {counted(wrong, 'recording')}; prepare the store again"
    assert (line in capsys.readouterr().out) == bool(wrong)


def test_preparing_again_into_an_outdated_store_is_refused(corpora, tmp_path):
    for name in ("mp3", "wav"):
        shutil.copytree(corpora / f"{name}_store", tmp_path / name)
        of_an_earlier_version(tmp_path / name)
    assert prepare([corpora / "wav"], tmp_path / "wav", workers=1)["records"] == 4  # nothing to do
    with pytest.raises(UserError, match=r"mp3: an earlier version decoded it.*\(4 recordings here\)"):
        prepare([corpora / "mp3"], tmp_path / "mp3", workers=1)


def test_stores_of_both_kinds_are_not_joined(corpora, tmp_path):
    for name in ("mp3", "wav", "flac"):
        shutil.copytree(corpora / f"{name}_store", tmp_path / name)
    join([of_an_earlier_version(tmp_path / "wav"), tmp_path / "mp3"], tmp_path / "good")
    assert Store(tmp_path / "good").info["decoder"] == 2
    of_an_earlier_version(tmp_path / "mp3")
    with pytest.raises(UserError, match=r"mp3: an earlier version decoded it"):
        join([tmp_path / "flac", tmp_path / "mp3"], tmp_path / "mixed")
    assert not (tmp_path / "mixed").exists()
    shutil.copytree(corpora / "ogg_segments", tmp_path / "ogg")
    join([tmp_path / "mp3", of_an_earlier_version(tmp_path / "ogg")], tmp_path / "old")
    assert Store(tmp_path / "old").info["decoder"] == 1 and Store(tmp_path / "old").outdated() == 5


@pytest.mark.parametrize("suffix", ["mp3", "wav"])
def test_a_part_of_an_earlier_version_is_written_again_before_the_merge(suffix, corpora, tmp_path, monkeypatch):
    monkeypatch.setattr("jepa_speech.store.chunks.CHUNK_RECORDS", 1)
    store = tmp_path / "store"
    for part in ((0, 2), (1, 2)):
        prepare([corpora / suffix], store, workers=1, part=part)
    lines = sidecar(store, 1).read_text().splitlines()
    assert json.loads(lines[-1])["decoder"] == 2
    old = {"shard": json.loads(lines[-1])["shard"]}
    sidecar(store, 1).write_text(lines[0] + "\n" + json.dumps(old) + "\n")
    written = {path: path.stat().st_mtime_ns for path in (store / "shards").iterdir()}
    if suffix == "mp3":
        with pytest.raises(UserError, match=r"1 of 4 shards .*an earlier version.* with --part 1/2$"):
            merge(store)
        prepare([corpora / suffix], store, workers=1, part=(1, 2))
        changed = [path.name for path, when in written.items() if path.stat().st_mtime_ns != when]
        assert changed == ["part-00001.array_record"]
    merge(store)
    assert Store(store).info["decoder"] == 2
    assert Store(store).fingerprint == Store(corpora / f"{suffix}_store").fingerprint


def test_a_sidecar_that_was_cut_is_written_again(corpora, tmp_path):
    store = tmp_path / "store"
    for part in ((0, 2), (1, 2)):
        prepare([corpora / "wav"], store, workers=1, part=part)
    whole = sidecar(store, 0).read_bytes()
    assert not unfinished(store, [0], [1, 1])
    rows = whole.splitlines(keepends=True)
    for cut in (b"", rows[0], whole[:-1], whole[:-9], b"".join(rows[:-1]), b"".join(rows[:-1]) + b"7\n"):
        sidecar(store, 0).write_bytes(cut)
        assert unfinished(store, [0], [1, 1]) == ([] if cut == whole[:-1] else [0]), cut
    with pytest.raises(UserError, match="1 of 1 shard not written"):
        merge(store)
    prepare([corpora / "wav"], store, workers=1, part=(0, 2))
    assert sidecar(store, 0).read_bytes() == whole


@pytest.mark.parametrize("named", ["", "x.wav", "x.mp3", "x"])
@pytest.mark.parametrize(("suffix", "found"), [("mp3", False), ("wav", True), ("flac", True), ("ogg", True)])
def test_cached_features_of_what_was_decoded_otherwise_are_not_used(
    suffix, found, named, corpora, tmp_path, monkeypatch
):
    """Whatever the name of the file is."""
    file = corpora / suffix / f"0.{suffix}"
    recording = AudioSource(path=str(shutil.copy(file, tmp_path / named) if named else file))
    monkeypatch.setattr("jepa_speech.probing.cache.VERSION", 1)
    Cache(tmp_path, "system").layers(recording, lambda: np.zeros((1, 2, 3)))
    monkeypatch.undo()
    assert (not Cache(tmp_path, "system").layers(recording, lambda: np.ones((1, 2, 3))).any()) == found
