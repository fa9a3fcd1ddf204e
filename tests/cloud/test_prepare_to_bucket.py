"""`prepare` writes a store into a bucket, whole or in parts, with the bytes of a local one."""

import filecmp
from contextlib import nullcontext
from pathlib import Path

import pytest
from support.audio_files import write_tones
from support.bucket_servers import BUCKET, names

import jepa_speech
from jepa_speech.cloud.objects import Objects
from jepa_speech.errors import UserError
from jepa_speech.store.destination import BucketDestination
from jepa_speech.store.store import Store

SETTINGS = {"codec": "pcm16", "shard_mb": 0.04, "workers": 1}


@pytest.fixture(scope="module")
def audio(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("to_bucket") / "audio"
    write_tones(folder, 12, seconds=0.5)
    return folder


@pytest.fixture(scope="module")
def expected(audio, tmp_path_factory):
    """What `prepare` returns of a local store."""
    return jepa_speech.prepare(audio, tmp_path_factory.mktemp("to_bucket") / "store", **SETTINGS)


def check(bucket, folder: str, expected, tmp_path) -> None:
    """Checks that the objects in a folder are the files of the local store."""
    local = Path(expected["store"])
    files = {path.relative_to(local).as_posix() for path in local.rglob("*") if path.is_file()}
    assert names(bucket, folder) == {name for name in files if not name.endswith(".lock")}
    for name in names(bucket, folder):
        (tmp_path / "object").write_bytes(bytes(bucket.get(f"{folder}/{name}").bytes()))
        assert filecmp.cmp(tmp_path / "object", local / name, shallow=False), name


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_store_is_the_same_as_a_local_one(scheme, machine, buckets, audio, expected, tmp_path, monkeypatch):
    cache, url = machine("first", scheme), f"{scheme}://{BUCKET}/prepared/whole"
    found = jepa_speech.prepare(audio, url, **SETTINGS)
    assert found == expected | {"store": url}
    check(buckets[scheme], "prepared/whole", expected, tmp_path)
    assert not list((cache / "written").rglob("*.*"))
    monkeypatch.setattr(Objects, "download", None)  # what was written is in the cache now
    assert len(Store(url).read(3)) > 8000
    monkeypatch.undo()
    machine("second", scheme)
    assert jepa_speech.prepare(audio, url, **SETTINGS) == found  # complete before
    with pytest.raises(UserError, match=rf"^{url}: was prepared with another codec; remove it"):
        jepa_speech.prepare(audio, url, codec="flac", workers=1)


def test_parts_are_written_on_several_machines_and_merged_on_another(
    machine, bucket, audio, expected, tmp_path, monkeypatch
):
    write_tones(other := tmp_path / "other", 2, seed=9)
    url = f"s3://{BUCKET}/prepared/parts"
    cache = machine("one")
    found = jepa_speech.prepare(audio, url, part=(0, 2), **SETTINGS)
    assert found["store"] == url and not found["whole"]
    assert not list(cache.rglob("*.array_record"))
    machine("two")
    with pytest.raises(UserError, match=rf"^{url}: \d of 4 shards not written; .* --part 1/2"):
        jepa_speech.merge_parts(url)
    with pytest.raises(UserError, match=rf"^{url}: was prepared with other inputs"):
        jepa_speech.prepare(other, url, part=(1, 2), **SETTINGS)
    with monkeypatch.context() as late, pytest.raises(UserError, match=rf"^{url}: another machine has just begun it"):
        machine("late")
        late.setattr(BucketDestination, "opened", lambda self, shared: nullcontext())  # as if none had begun
        jepa_speech.prepare(other, url, part=(1, 2), **SETTINGS)
    machine("two")
    jepa_speech.prepare(audio, url, part=(1, 2), **SETTINGS)
    before = bucket.head("prepared/parts/shards/part-00000.array_record")["e_tag"]
    machine("three")
    assert jepa_speech.prepare(audio, url, part=(0, 2), **SETTINGS) == found  # finished on the first machine
    merged = jepa_speech.merge_parts(url)
    figures = {name: value for name, value in expected.items() if name != "fields"}
    assert merged == figures | {"store": url, "labels": []}
    check(bucket, "prepared/parts", expected, tmp_path)
    assert bucket.head("prepared/parts/shards/part-00000.array_record")["e_tag"] == before
    assert jepa_speech.merge_parts(url) == merged


def test_a_killed_upload_goes_on_and_ends_with_the_description(machine, bucket, audio, expected, tmp_path, monkeypatch):
    url, upload, uploaded = f"s3://{BUCKET}/prepared/killed", Objects.upload, []

    def killed(self, name, path):
        if name == "index/crc.npy":
            raise KeyboardInterrupt
        upload(self, name, path)

    def counted(self, name, path):
        uploaded.append(name)
        upload(self, name, path)

    machine("first")
    monkeypatch.setattr(Objects, "upload", killed)
    with pytest.raises(KeyboardInterrupt):
        jepa_speech.prepare(audio, url, **SETTINGS)
    assert "store.json" not in names(bucket, "prepared/killed")
    monkeypatch.setattr(Objects, "upload", counted)
    assert jepa_speech.prepare(audio, url, **SETTINGS) == expected | {"store": url}
    assert uploaded == ["index/crc.npy", "records.jsonl", "rejects.jsonl", "duplicates.jsonl", "store.json"]
    check(bucket, "prepared/killed", expected, tmp_path)


def test_what_is_refused(machine, bucket, audio, tmp_path):
    machine("first")
    bucket.put("prepared/other/notes.txt", b"mine")
    with pytest.raises(UserError, match=r"/prepared/other: not a store, as it holds notes.txt; choose a new folder"):
        jepa_speech.prepare(audio, f"s3://{BUCKET}/prepared/other", **SETTINGS)
    assert names(bucket, "prepared/other") == {"notes.txt"}
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.wav").write_bytes(b"no audio")
    url = f"s3://{BUCKET}/prepared/bad"
    with pytest.raises(UserError, match=rf"; {url}/rejects.jsonl lists all"):
        jepa_speech.prepare(tmp_path / "bad", url, **SETTINGS)
    assert b"a.wav" in bytes(bucket.get("prepared/bad/rejects.jsonl").bytes())
    bucket.put("prepared/bad/mine.txt", b"mine")
    found = jepa_speech.prepare(audio, url, **SETTINGS)  # all were rejected, so the inputs may change
    assert "mine.txt" in names(bucket, "prepared/bad")
    assert found["records"] == 12 and not any("work/" in name for name in names(bucket, "prepared/bad"))
