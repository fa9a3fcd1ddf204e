"""Shards are fetched before the batches that use them, only those of this process, and evicted by the plan."""

import threading
import time
from functools import partial
from math import inf

import numpy as np
import pytest
from support.bucket_servers import Relay, environment, upload

from jepa_speech.batches.batch_plan import Plan
from jepa_speech.batches.fetch_ahead import NAME, FetchAhead, fetched_ahead, too_small
from jepa_speech.batches.pipeline import batches
from jepa_speech.batches.weighted_stores import Stores
from jepa_speech.cloud.cache import Cache, Shard
from jepa_speech.cloud.objects import Objects
from jepa_speech.errors import UserError
from jepa_speech.store.store import Store
from jepa_speech.training.run_batches import shards_of


@pytest.fixture
def relay(servers):
    found = Relay(servers["s3"])
    yield found
    found.close()


@pytest.fixture
def store(relay, servers, local, monkeypatch, tmp_path):
    for name, value in environment("s3", relay.url, tmp_path / "cache").items():
        monkeypatch.setenv(name, value)
    return Store(upload("s3", servers["s3"], local.path, "stores/ahead"))


def fetched(relay: Relay) -> dict[str, int]:
    return {name.rpartition("/")[2]: count for name, count in relay.got.items() if "/shards/" in name}


def wait_until(true, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("mixes", [False, True])
def test_the_shards_of_this_process_are_fetched_before_they_are_read(mixes, store, relay):
    plan = Plan(store.samples, (0.6,), 1.3, seed=0, rows_multiple=2)
    shards, stop = partial(shards_of, store, plan, mixes, (1, 2)), 3
    rows = [(plan[i].records[1:], plan[i].mix[1:] if mixes else []) for i in range(stop)]
    used = np.unique(store.index["shard"][np.concatenate([*sum(rows, ())]).astype(int)])
    with_nothing_read = FetchAhead(shards, 0, stop, seconds=10)
    wait_until(lambda: len(fetched(relay)) == len(used))
    with_nothing_read.close()
    assert fetched(relay) == {f"part-{shard:05d}.array_record": 1 for shard in used}
    assert 0 < len(used) < len(store.info["shard_bytes"])


def test_no_more_seconds_ahead_than_asked_for(store, relay):
    plan = Plan(store.samples, (0.6,), 0.6, seed=0)
    ahead = FetchAhead(partial(shards_of, store, plan, False, (0, 1)), 0, 12, seconds=2)  # a batch a second at first
    first = {shard.path.name for i in range(2) for shard in shards_of(store, plan, False, (0, 1), i)}
    wait_until(lambda: len(fetched(relay)) == len(first))
    ahead.close()
    assert fetched(relay).keys() == first


def test_batches_are_the_same_and_no_thread_stays(store, local, relay, monkeypatch):
    monkeypatch.setenv("JEPA_SPEECH_CACHE_GB", str(sum(local.info["shard_bytes"]) / 3e9))

    def read(store, wrap):
        plan = Plan(store.samples, (0.3, 0.6), 1.5, seed=5)
        stream = batches(store, plan, frozenset({"mix"}), 0, 25)
        return wrap(stream, partial(shards_of, store, plan, True, (0, 1)))

    found = read(store, lambda stream, shards: fetched_ahead(stream, shards, 0, 25, 10.0))
    for mine, theirs in zip(found, read(local, lambda stream, _: stream), strict=True):
        for name, array in theirs.items():
            np.testing.assert_array_equal(mine[name], array)
    part = read(store, lambda stream, shards: fetched_ahead(stream, shards, 0, 25, 10.0))
    next(part)
    part.close()
    assert NAME not in [thread.name for thread in threading.enumerate()]


def test_a_cache_that_cannot_hold_the_store_is_named(store, monkeypatch):
    size = sum(store.info["shard_bytes"])
    for bound, said in ((2 * size, ""), (size - 1, "so shards are fetched again and again: raise the environment")):
        monkeypatch.setenv("JEPA_SPEECH_CACHE_GB", str(bound / 1e9))
        for found in (store, Stores([(store.files, 0.5)])):
            assert said in too_small(found) if said else too_small(found) == ""


def test_an_error_is_raised_when_the_shard_is_read(store, relay):
    relay.faults = lambda name, number, body: (404, b"")
    plan = Plan(store.samples, (0.6,), 1.2, seed=0)
    shards = partial(shards_of, store, plan, False, (0, 1))
    with pytest.raises(UserError, match=r"shards/part-.*: missing; copy the store again"):
        list(fetched_ahead(batches(store, plan, frozenset(), 0, 5), shards, 0, 5, 10.0))


def test_the_shard_that_is_used_the_latest_is_evicted(servers, tmp_path, monkeypatch, local):
    for name, value in environment("s3", servers["s3"], tmp_path).items():
        monkeypatch.setenv(name, value)
    objects = Objects(upload("s3", servers["s3"], local.path, "stores/evicted"))
    sizes, crcs = local.info["shard_bytes"], local.info["shard_crc"]
    names = [f"shards/part-{shard:05d}.array_record" for shard in range(4)]
    shards = [Shard(objects, *found) for found in zip(names, map(tmp_path.joinpath, names), sizes, crcs, strict=False)]
    # The cache looks for shards two levels below its root.
    shards = [shard._replace(path=tmp_path / "s3" / "a" / shard.name) for shard in shards]
    cache = Cache(tmp_path, sum(sizes[:3]) + 1)
    soon = dict(zip([shard.path for shard in shards], [7, 2, inf, 4], strict=True))
    cache.expected["a plan"] = lambda path: soon[path]
    cache.expected["another"] = lambda path: inf

    def there():
        return [number for number, shard in enumerate(shards) if shard.path.exists()]

    assert all(cache.fetch(shard) for shard in shards[:3]) and there() == [0, 1, 2]
    assert cache.fetch(shards[3], use=4) and there() == [0, 1, 3]  # 2 is used never
    assert not cache.fetch(shards[2], use=8) and there() == [0, 1, 3]  # all others are used sooner
    assert cache.fetch(shards[2]) and there() == [1, 2, 3]  # it is read now
    assert not cache.fetch(shards[0], use=0, go_on=lambda: False) and 0 not in there()
