"""Servers of buckets, machines that use them, and a store of several shards with labels."""

from pathlib import Path

import pytest
from support.audio_files import write_tones
from support.bucket_servers import Relay, environment, fake_gcs, gs_bucket, moto, s3_bucket
from support.gcs_writes import WritableGCS
from support.random_anchors import make_gmm

from jepa_speech.labelling.anchoring import label
from jepa_speech.store.prepare import prepare
from jepa_speech.store.store import Store


@pytest.fixture(scope="session")
def servers():
    """The address of a server by the scheme of its URLs."""
    with moto() as s3, fake_gcs() as gs:
        writable = WritableGCS(gs)
        yield {"s3": s3, "gs": writable.url}
        writable.close()


@pytest.fixture
def relay(servers):
    """What passes requests on to the server of s3://, and may fail on the way."""
    found = Relay(servers["s3"])
    yield found
    found.close()


@pytest.fixture
def machine(servers, monkeypatch, tmp_path):
    """machine(name, scheme="s3"): what follows runs on a machine with a cache of this name, which is returned."""

    def use(name: str, scheme: str = "s3") -> Path:
        for key, value in environment(scheme, servers[scheme], tmp_path / name).items():
            monkeypatch.setenv(key, value)
        return tmp_path / name

    return use


@pytest.fixture
def buckets(servers):
    """The bucket of each server, as another client sees it."""
    return {"s3": s3_bucket(servers["s3"]), "gs": gs_bucket(servers["gs"])}


@pytest.fixture
def bucket(buckets):
    return buckets["s3"]


@pytest.fixture(scope="session")
def local(tmp_path_factory):
    """A store of 12 recordings in 6 shards or so, with the labels of `anchor`."""
    folder = tmp_path_factory.mktemp("local")
    write_tones(folder / "audio", 12, seconds=0.5)
    prepare([folder / "audio"], folder / "store", "pcm16", workers=1, shard_mb=0.04)
    return Store(folder / "store")


@pytest.fixture(scope="session")
def anchor(local):
    found = make_gmm(components=4)
    label(local, found, 2)
    return found
