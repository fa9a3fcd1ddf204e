"""Anchors and labels are written to a bucket, the last object last, and an upload goes on after a kill."""

import os
import shutil

import numpy as np
import pytest
from support.bucket_servers import BUCKET, names, upload

import jepa_speech
from jepa_speech.anchors.ensemble import open_anchors
from jepa_speech.cloud import objects as writing
from jepa_speech.cloud.mirror import Mirror
from jepa_speech.cloud.objects import Objects
from jepa_speech.errors import UsageError, UserError
from jepa_speech.store.feature_means import load_means
from jepa_speech.store.labels import Labels
from jepa_speech.store.store import Store

SMALL = {"components": 2, "iterations": 1, "features": "mfcc", "normalize": "mean"}


@pytest.fixture
def bare(local, tmp_path):
    """A copy of the store without labels."""
    without = shutil.ignore_patterns("labels", "feature_means")
    return Store(shutil.copytree(local.path, tmp_path / "bare", ignore=without))


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_store_is_fitted_and_labelled_where_it_is(scheme, machine, servers, buckets, bare, tmp_path):
    machine("first", scheme)
    url = upload(scheme, servers[scheme], bare.path, "made/store")
    out = f"{scheme}://{BUCKET}/made/a.npz"
    fitted = jepa_speech.fit_gmm(url, out, **SMALL)
    assert fitted["anchor"] == out
    expected = jepa_speech.fit_gmm(bare.path, tmp_path / "a.npz", **SMALL)
    assert fitted["fingerprint"] == expected["fingerprint"]
    labelled = jepa_speech.label(url, out, top_k=2)
    assert not labelled["already_labelled"]
    assert labelled["labels"] == f"{url}/labels/{fitted['fingerprint'][:12]}"
    assert sorted(names(buckets[scheme], "made"))[:3] == ["a.metrics.jsonl", "a.npz", "a.png"]

    machine("second", scheme)
    store = Store(url)
    anchor = open_anchors(out)
    assert anchor.fingerprint == expected["fingerprint"]
    labels = Labels(store, anchor)
    jepa_speech.label(bare.path, tmp_path / "a.npz", top_k=2)
    for i in range(len(store)):
        for mine, theirs in zip(labels.slice(i, 0, 99), Labels(bare, anchor).slice(i, 0, 99), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(load_means(store, "mfcc"), load_means(bare, "mfcc"))
    assert jepa_speech.label(url, out, top_k=2)["already_labelled"]
    buckets[scheme].delete("made/a.npz")
    with pytest.raises(UserError, match=rf"^{out}: no such anchor"):  # though there is still a copy in the cache
        open_anchors(out)


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_an_object_appears_once_and_whole(scheme, machine, buckets, tmp_path, monkeypatch):
    machine("first", scheme)
    objects = Objects(f"{scheme}://{BUCKET}/a b")
    monkeypatch.setattr(writing, "PART", 5 << 20)
    (tmp_path / "large").write_bytes(np.random.default_rng(0).bytes(11 << 20))
    objects.upload("in three parts", tmp_path / "large")
    assert bytes(buckets[scheme].get("a b/in three parts").bytes()) == (tmp_path / "large").read_bytes()
    assert [objects.create("new", data) for data in (b"first", b"second")] == [True, False]
    assert objects.read("new") == b"first" and objects.list("").keys() == {"new", "in three parts"}
    objects.remove("new")
    assert objects.find("new") is None


def test_an_upload_goes_on_after_a_kill_and_ends_with_the_description(machine, servers, bucket, bare, monkeypatch):
    machine("first")
    url = upload("s3", servers["s3"], bare.path, "killed/store")
    anchor = f"s3://{BUCKET}/killed/a.npz"
    fitted = jepa_speech.fit_gmm(url, anchor, **SMALL)
    folder = f"labels/{fitted['fingerprint'][:12]}"
    jepa_speech.label(url, anchor, top_k=1)  # labels that the next ones replace
    uploaded, write = [], Objects.upload

    def killed(self, name, path):
        if name.endswith("blocks.bin"):
            raise UserError("killed")
        write(self, name, path)

    monkeypatch.setattr(Objects, "upload", killed)
    with pytest.raises(UserError, match="killed"):
        jepa_speech.label(url, anchor, top_k=2)
    assert f"{folder}/meta.json" not in names(bucket, "killed/store")

    def counted(self, name, path):
        uploaded.append(name)
        write(self, name, path)

    monkeypatch.setattr(Objects, "upload", counted)
    assert jepa_speech.label(url, anchor, top_k=2)["already_labelled"]  # here, and now in the bucket
    assert uploaded == [f"{folder}/blocks.bin", f"{folder}/meta.json"]
    machine("second")
    assert Labels(Store(url), fitted["fingerprint"]).top_k == 2


def test_what_is_refused(machine, bare, tmp_path):
    machine("first")
    with pytest.raises(UsageError, match=r"^part: the labels of s3://b/x are made by one process"):
        jepa_speech.label("s3://b/x", "a.npz", part=(0, 2))
    with pytest.raises(UsageError, match=r"^s3://a.npz: the URL of a bucket; name a file in it"):
        jepa_speech.fit_gmm(bare.path, "s3://a.npz", **SMALL)
    with pytest.raises(UserError, match=rf"^s3://{BUCKET}/none.npz: no such anchor; make it"):
        open_anchors(f"s3://{BUCKET}/none.npz")


def test_a_file_of_the_same_size_and_second_is_uploaded_again(machine, bucket, tmp_path):
    machine("first")
    mirror, path = Mirror(Objects(f"s3://{BUCKET}/again"), tmp_path), tmp_path / "x"
    path.write_bytes(b"one")
    mirror.upload(["x"])
    path.write_bytes(b"two")
    os.utime(path, ns=(0, int(bucket.head("again/x")["last_modified"].timestamp()) * 10**9 + 5))
    mirror.upload(["x"])
    assert bytes(bucket.get("again/x").bytes()) == b"two"
    path.unlink()
    mirror.fetch("x")
    assert path.read_bytes() == b"two"
