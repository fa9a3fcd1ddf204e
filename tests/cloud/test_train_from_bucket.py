"""The batches of a store in a bucket are those of a local one. (A run of it: test_run_in_bucket.py.)"""

import pickle

import numpy as np
import pytest
from support.bucket_servers import environment, upload

from jepa_speech.batches.batch_plan import Plan
from jepa_speech.batches.pipeline import batches
from jepa_speech.batches.weighted_stores import open_stores
from jepa_speech.store.labels import Labels
from jepa_speech.store.store import Store


@pytest.fixture
def url(servers, local, anchor, monkeypatch, tmp_path):
    """The store in a bucket, with a cache that holds a third of it."""
    for name, value in environment("s3", servers["s3"], tmp_path / "cache").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("JEPA_SPEECH_CACHE_GB", str(sum(local.info["shard_bytes"]) / 3e9))
    return upload("s3", servers["s3"], local.path, "stores/trained")


def test_batches_are_those_of_a_local_store(url, local, anchor):
    def read(store):
        plan = Plan(store.samples, (0.3, 0.6), 2.0, seed=3)
        fields = frozenset({"mix", "context", "anchor"})
        return batches(store, plan, fields, 3, 11, 1, 2, labels=Labels(store, anchor))

    found, expected = read(Store(url)), read(local)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.keys() == theirs.keys()
        for name, array in theirs.items():
            np.testing.assert_array_equal(mine[name], array)


def test_stores_in_a_mixture(url, local):
    stores = pickle.loads(pickle.dumps(open_stores(f"{url}:0.5")))
    np.testing.assert_array_equal(stores.read(5), local.read(5))
    assert repr(stores).startswith(f"0.5 x Store('{url}'")
