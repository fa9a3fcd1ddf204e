"""Servers of buckets, and a store of several shards with labels."""

import pytest
from support.audio_files import write_tones
from support.bucket_servers import fake_gcs, moto
from support.random_anchors import make_gmm

from jepa_speech.labelling.anchoring import label
from jepa_speech.store.prepare import prepare
from jepa_speech.store.store import Store


@pytest.fixture(scope="session")
def servers():
    """The address of a server by the scheme of its URLs."""
    with moto() as s3, fake_gcs() as gs:
        yield {"s3": s3, "gs": gs}


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
