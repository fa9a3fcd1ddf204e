"""Stores made one without decoding: the store that their inputs would have made together."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from support.audio_files import write_tones
from support.kills import at_every_rename

from jepa_speech.errors import UsageError, UserError
from jepa_speech.files import read_jsonl
from jepa_speech.store.inspection import verify
from jepa_speech.store.joining import join
from jepa_speech.store.prepare import merge, prepare
from jepa_speech.store.store import Store


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """Folders a, b and c; c has a recording of a's again, and one that is broken."""
    folder = tmp_path_factory.mktemp("corpora")
    for seed, (name, count) in enumerate([("a", 5), ("b", 4), ("c", 3)]):
        write_tones(folder / name, count, seed=100 * seed)
    shutil.copy(folder / "a" / "tone001.wav", folder / "c" / "tone001.wav")
    (folder / "c" / "tone002.wav").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def stores(corpora):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jepa_speech.store.chunks.CHUNK_RECORDS", 2)
        for name in "abc":
            prepare([corpora / name], corpora / f"store_{name}", workers=1, max_reject_fraction=0.5)
    return [corpora / f"store_{name}" for name in "abc"]


@pytest.fixture(scope="module")
def at_once(corpora):
    prepare([corpora / name for name in "abc"], corpora / "at_once", workers=1, max_reject_fraction=0.5)
    return Store(corpora / "at_once")


def test_as_if_prepared_at_once(stores, at_once, tmp_path):
    result = join(stores, tmp_path / "joined")
    joined = Store(tmp_path / "joined")
    assert joined.fingerprint == result["fingerprint"] == at_once.fingerprint
    assert joined.hours == at_once.hours and len(joined) == len(at_once) == 11
    for i in range(len(at_once)):
        np.testing.assert_array_equal(joined.read(i), at_once.read(i))
    assert list(joined.records()) == list(at_once.records())
    for name in ("rejects.jsonl", "duplicates.jsonl"):
        rows = list(read_jsonl(joined.path / name))
        assert rows == list(read_jsonl(at_once.path / name)) and rows
    assert (result["rejected"], result["duplicates"], result["read"]) == (1, 1, 12)
    assert [(source["name"], source["records"]) for source in joined.sources] == [
        ("store_a", 5),
        ("store_b", 4),
        ("store_c", 2),
    ]
    assert not verify(joined, decode=True)
    assert join(stores, tmp_path / "joined") == result  # nothing to do


def test_joining_can_be_nested(stores, at_once, tmp_path):
    join(stores[:2], tmp_path / "ab")
    join([tmp_path / "ab", stores[2]], tmp_path / "abc")
    joined = Store(tmp_path / "abc")
    assert joined.fingerprint == at_once.fingerprint
    assert [source["name"] for source in joined.sources] == ["store_a", "store_b", "store_c"]


def test_shards_are_linked_or_else_copied(stores, tmp_path, monkeypatch):
    shard = Path("shards", "part-00000.array_record")
    join(stores, tmp_path / "linked")
    assert (tmp_path / "linked" / shard).samefile(stores[0] / shard)

    def refuse(path, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    join(stores, tmp_path / "copied")
    assert not (tmp_path / "copied" / shard).samefile(stores[0] / shard)
    assert not verify(Store(tmp_path / "copied"))
    shutil.rmtree(tmp_path / "linked")
    assert not verify(Store(stores[0]))


def test_what_does_not_go_together_is_refused(stores, corpora, tmp_path):
    prepare([corpora / "a"], tmp_path / "pcm", "pcm16", workers=1)
    for parts, error, message in [
        (stores[:1], UsageError, "at least two"),
        ([stores[0], tmp_path / "pcm"], UserError, "has codec pcm16, but .*store_a has flac"),
        ([stores[0], stores[0]], UserError, "same store twice"),
        ([stores[0], corpora / "b"], UserError, "not a complete store"),
    ]:
        with pytest.raises(error, match=message):
            join(parts, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(UserError, match=r"holds tone000.wav"):
        join(stores, corpora / "a")
    join(stores[:2], tmp_path / "ab")
    with pytest.raises(UserError, match="ab: was prepared with other inputs"):
        join(stores, tmp_path / "ab")
    with pytest.raises(UserError, match="store_c: was prepared with"):
        join(stores[:2], stores[2])


def test_killed_at_any_rename(stores, at_once, tmp_path):
    out = tmp_path / "joined"
    for kills in at_every_rename(lambda: join(stores, out)):
        if not (out / "store.json").exists():
            with pytest.raises(UserError, match="not a complete store"):
                Store(out)
            if kills % 10 == 0 and (out / "work").exists():
                with pytest.raises(UserError, match="an unfinished join of stores"):
                    merge(out)
        join(stores, out)
        assert Store(out).fingerprint == at_once.fingerprint and not verify(Store(out))
        assert not list(out.glob("work*")) and not list(out.rglob("*.tmp"))
        shutil.rmtree(out)
    assert kills > 40
