"""Stores with labels and feature means, damaged at random: never read as good with other values, never a traceback."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from support.audio_files import write_tones
from support.damage import KINDS, damage
from support.older_stores import as_an_older_store

from jepa_speech.array_files import CRC_BYTES
from jepa_speech.batches.joined_labels import stored_labels
from jepa_speech.batches.weighted_stores import open_stores
from jepa_speech.cli import main
from jepa_speech.errors import UserError
from jepa_speech.features import grid
from jepa_speech.labelling.parts import LabelParts, join, merge_label_parts
from jepa_speech.store.description import OLDER
from jepa_speech.store.feature_means import load_means, save_means
from jepa_speech.store.inspection import verify
from jepa_speech.store.prepare import merge, prepare
from jepa_speech.store.store import Store

ANCHOR = SimpleNamespace(fingerprint="0123456789abcdef" * 4)
TRIES = 120


def add_labels(store, components=300, k=3, joined=True):
    """Labels by no anchor: random components and levels."""
    parts, random = LabelParts(store, ANCHOR, components, k), np.random.default_rng(0)
    for number, records in enumerate(parts.chunks):
        count = int(grid.frames(np.asarray(store.samples[records.start : records.stop])).sum())
        ids = np.argsort(random.random((count, components)), axis=1)[:, :k].astype(np.uint16)
        levels, pool = random.integers(1, 80, (count, k)).astype(np.uint8), np.full(count, 9, np.uint8)
        parts.write(number, ids, levels, pool, np.array([count, count / 2, count, count]))
    if joined:
        join(store, parts.path)
    return parts


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    write_tones(folder / "audio", 5, seconds=0.3)
    (folder / "audio" / "no.wav").write_bytes(b"RIFF")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jepa_speech.store.chunks.CHUNK_RECORDS", 3)
        prepare([folder / "audio"], folder / "store", workers=1, max_reject_fraction=1)
    store = Store(folder / "store")
    save_means(store, "mfcc", np.random.default_rng(0).normal(size=(5, 39)))
    add_labels(store)
    return store.path


def as_of_an_earlier_version(store):
    """Without the checksums that this version has added."""
    as_an_older_store(store)
    for path in store.glob("labels/*/meta.json"):
        fields = json.loads(path.read_text())
        del fields["crc"], fields["files_crc"]
        path.write_text(json.dumps(fields))
    for path in store.glob("feature_means/*.npy"):
        path.write_bytes(path.read_bytes()[:-CRC_BYTES])


def contents(path):
    """All that training, labelling and probing read of a store."""
    store = open_stores(str(path))
    labels = stored_labels(store, ANCHOR.fingerprint)
    arrays = [store.read(i) for i in range(len(store))] + [load_means(store, "mfcc"), *store.index.values()]
    for i in range(len(store)):
        arrays += labels.slice(i, 0, 10**6)
    texts = [list(store.records()), list(store.rejects()), store.fingerprint, store.codec, round(store.hours, 9)]
    return [np.asarray(array) for array in arrays], [*texts, len(store), labels.top_k, labels.components]


def same(one, other):
    arrays = zip(one[0], other[0], strict=True)
    return one[1] == other[1] and all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in arrays)


@pytest.mark.parametrize("version", ["this", "an earlier one"])
def test_no_random_damage_is_read_as_good(whole, tmp_path, version):
    path, random = tmp_path / "store", np.random.default_rng(0)
    shutil.copytree(whole, path)
    spare = []
    if version != "this":
        as_of_an_earlier_version(path)
        spare = ["labels/*/meta.json", "feature_means/*"]  # a changed figure in such a file cannot be noticed
    expected, seen = contents(path), set()
    assert verify(Store(path)) == []
    for attempt in range(TRIES):
        before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
        done = damage(path, random, ["flip"] if attempt % 2 else list(KINDS), spare)
        seen.add(done.name)
        good = False
        try:
            good = same(contents(path), expected)
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error), f"{done}: {error}"
        else:
            assert good, str(done)
        try:
            found = verify(Store(path, damaged=True))
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error), f"{done}: {error}"
        else:
            no_means = done.kind == "delete" and "feature_means" in done.name
            unread = version != "this" or done.name.endswith(
                (".json", "mfcc.npy")
            )  # spaces, or the checksum is cut off
            assert found or no_means or (good and unread), str(done)
        done.path.write_bytes(before[done.path])
    assert len(seen) > 12


WRONG_FIELDS = [
    {"codec": "bogus"},
    {"codec": None},
    {"hours": "x"},
    {"hours": float("nan")},
    {"hours": 99.0},
    {"records": 0},
    {"records": 4},
    {"records": 5.0},
    {"fingerprint": "0" * 64},
    {"fingerprint": 7},
    {"sample_rate": 8_000},
    {"shard_bytes": []},
    {"shard_bytes": 5},
    {"shard_bytes": None},
    {"shard_bytes": [True, True]},
    {"shard_bytes": [10**400, 1]},
    {"shard_crc": [1]},
    {"shard_crc": [-1, 1]},
    {"files_crc": {}},
    {"files_crc": []},
    {"duplicates": -1},
    {"rejected": "1"},
    {"sources": {"a": 1}},
    {"sources": [{"name": "x", "records": 2, "hours": 1, "fingerprint": ""}]},
    {"inputs": ["x"]},
]


@pytest.mark.parametrize("missing", [False, True])
def test_every_field_of_store_json_is_checked(whole, tmp_path, missing):
    """Without its checksum, as earlier versions wrote it: with it, every change is named."""
    path = tmp_path / "store"
    shutil.copytree(whole, path)
    sound = json.loads((path / "store.json").read_text())
    rest = {name: value for name, value in sound.items() if name in OLDER}
    names = [name for name in rest if name != "shard_mb"]
    for change in [{name: None} for name in names] if missing else WRONG_FIELDS:
        changed = rest | change
        if missing:
            changed = {name: value for name, value in changed.items() if value is not None}
        (path / "store.json").write_text(json.dumps(changed))
        with pytest.raises(UserError, match=r"/store(/store\.json|/index/|: not a store)") as error:
            Store(path)
        assert "\n" not in str(error.value) and len(str(error.value)) < 500
    for text in (json.dumps(sound | {"rejected": 2}), json.dumps(rest | {"codex": 1}), "[" * 99_999, "3"):
        (path / "store.json").write_text(text)
        with pytest.raises(UserError, match=r"store\.json"):
            Store(path)


WRONG_META = [
    {"components": 299.0},
    {"components": 0},
    {"components": 2},  # fewer than top_k
    {"top_k": "3"},
    {"top_k": 301},
    {"frames": 1},
    {"posterior_entropy": float("nan")},
    {"mean_kept_mass": None},
    {"format": "2"},
    {"anchor": None},
    {"store": ["x"]},
]


def test_every_field_of_the_labels_meta_json_is_checked(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "store")
    as_of_an_earlier_version(tmp_path / "store")
    store = Store(tmp_path / "store")
    (path,) = store.path.glob("labels/*/meta.json")
    sound = json.loads(path.read_text())
    for change in WRONG_META:
        path.write_text(json.dumps(sound | change))
        with pytest.raises(UserError, match=r"labels/0123456789ab") as error:
            stored_labels(store, ANCHOR.fingerprint)
        assert "\n" not in str(error.value)
    path.write_text(json.dumps(sound | {"components": 250}))  # fewer than the blocks name
    with pytest.raises(UserError, match="labels of recording 0 are damaged"):
        stored_labels(store, ANCHOR.fingerprint).slice(0, 0, 99)


def test_inspect_verify_names_damaged_labels_and_rows(whole, tmp_path, capsys):
    shutil.copytree(whole, tmp_path / "store")
    (blocks,) = tmp_path.glob("store/labels/*/blocks.bin")
    data = bytearray(blocks.read_bytes())
    data[40] ^= 1
    blocks.write_bytes(data)
    args = ["inspect", str(tmp_path / "store"), "--verify", "--json", str(tmp_path / "found.json")]
    assert main(args) == 1
    assert "blocks.bin: not the bytes that were written" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "found.json").read_text())["damage"]
    assert row["file"] == "labels/0123456789ab"
    records = tmp_path / "store" / "records.jsonl"
    records.write_bytes(records.read_bytes()[:-30] + b"\n")
    assert main(args) == 1
    found = json.loads((tmp_path / "found.json").read_text())
    assert [row["file"] for row in found["damage"]] == ["records.jsonl", "labels/0123456789ab"]
    assert "2 files damaged" in found["error"] and "Traceback" not in capsys.readouterr().err


def test_damaged_chunks_of_unfinished_labels_are_never_joined(whole, tmp_path, monkeypatch):
    monkeypatch.setattr("jepa_speech.labelling.parts.CHUNK_FRAMES", 30)
    shutil.copytree(whole, tmp_path / "store", ignore=shutil.ignore_patterns("labels"))
    store, random = Store(tmp_path / "store"), np.random.default_rng(0)
    parts = add_labels(store, joined=False)
    shutil.copytree(parts.path, tmp_path / "unfinished")
    (made,) = merge_label_parts(store)
    expected, kinds = contents(store.path), []
    for attempt in range(40):
        shutil.rmtree(made)
        shutil.rmtree(parts.path, ignore_errors=True)
        shutil.copytree(tmp_path / "unfinished", parts.path)
        done = damage(parts.path, random, ["flip"] if attempt % 2 else list(KINDS))
        try:
            merge_label_parts(store)
        except UserError as error:
            assert str(store.path) in str(error) and "\n" not in str(error), f"{done}: {error}"
            made.mkdir()  # for the next attempt to remove
        else:
            if done.name == "plan.json" and done.kind == "delete":  # nothing says that there is anything unfinished
                made.mkdir()
                continue
            assert same(contents(store.path), expected), str(done)
        kinds.append(done.name)
    assert len(set(kinds)) > 2


def test_a_damaged_sidecar_of_an_unfinished_store_is_written_again(whole, tmp_path, monkeypatch):
    monkeypatch.setattr("jepa_speech.store.chunks.CHUNK_RECORDS", 3)
    audio, path, random = whole.parent / "audio", tmp_path / "unfinished", np.random.default_rng(0)
    for part in ((0, 2), (1, 2)):
        prepare([audio], path, workers=1, part=part)
    for _ in range(12):
        shutil.copytree(path, tmp_path / "store")
        spared = ["plan.json", "entries.jsonl", "*.jepa-speech*"]  # marks and locks are empty, and no sidecars
        done = damage(tmp_path / "store" / "work", random, ["flip", "flip", *KINDS], spared)
        with pytest.raises(UserError, match=r"1 of 2 shards"):
            merge(tmp_path / "store")
        for part in ((0, 2), (1, 2)):
            prepare([audio], tmp_path / "store", workers=1, part=part)
        merge(tmp_path / "store", 1)
        found, wanted = Store(tmp_path / "store"), Store(whole)
        assert found.fingerprint == wanted.fingerprint, str(done)
        assert list(found.records()) == list(wanted.records()) and list(found.rejects()) == list(wanted.rejects())
        shutil.rmtree(tmp_path / "store")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["plan.json", "entries.jsonl"])
def test_a_damaged_plan_or_list_is_never_worked_by(whole, tmp_path, monkeypatch, name, kind):
    monkeypatch.setattr("jepa_speech.store.chunks.CHUNK_RECORDS", 3)
    audio, path = whole.parent / "audio", tmp_path / "store"
    prepare([audio], path, workers=1, part=(0, 2))
    done = damage(path / "work" / name, np.random.default_rng(5), [kind])
    with pytest.raises(
        UserError, match=r"/store(/work/(plan\.json|entries\.jsonl)|: not a store, as it holds )"
    ) as error:
        prepare([audio], path, workers=1, part=(1, 2))
    assert "\n" not in str(error.value), str(done)
    if name == "plan.json":
        with pytest.raises(UserError, match="/store"):
            merge(path)
