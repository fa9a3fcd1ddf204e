"""Shards are fetched before the batches that use them, only those of this process, and evicted by the plan."""

import threading
import time
from contextlib import closing
from functools import partial
from math import inf
from types import SimpleNamespace

import numpy as np
import pytest
from support.bucket_servers import Relay, environment, upload

from jepa_speech.batches import fetch_ahead
from jepa_speech.batches.batch_plan import Plan
from jepa_speech.batches.fetch_ahead import NAME, FetchAhead, FetchedAhead, SharedPlan, too_small
from jepa_speech.batches.pipeline import batches
from jepa_speech.batches.weighted_stores import Stores
from jepa_speech.cloud.cache import Cache, Shard
from jepa_speech.cloud.objects import Objects
from jepa_speech.errors import UserError
from jepa_speech.store.store import Store
from jepa_speech.training.ledger import Clock
from jepa_speech.training.run_batches import shards_of, stream


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


@pytest.mark.parametrize("workers", [0, 2])
def test_reader_and_fetchers_share_the_items_of_the_plan(workers, store, local, monkeypatch):
    plan, planned, shared = Plan(store.samples, (0.6,), 1.3, seed=0), [], []
    computed, made = Plan.__getitem__, SharedPlan.__init__
    monkeypatch.setattr(Plan, "__getitem__", lambda self, i: planned.append(i) or computed(self, i))
    monkeypatch.setattr(SharedPlan, "__init__", lambda self, plan: shared.append(self) or made(self, plan))
    objective = SimpleNamespace(batch_fields=frozenset({"mix"}))
    with closing(stream(objective, store, plan, None, "", workers)(2, 9)) as found:
        found = list(found)
    assert sorted(planned) == list(range(2, 9))  # those of worker processes are not seen here
    assert not any(one._waiting for one in shared) and bool(shared) == (not workers)
    for mine, theirs in zip(found, stream(objective, local, plan, None, "")(2, 9), strict=True):
        for name, array in theirs.items():
            np.testing.assert_array_equal(mine[name], array)


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

    for whole in (True, False):
        with closing(read(store, lambda stream, shards: FetchedAhead(stream, shards, 0, 25, 10.0))) as found:
            for mine, theirs in zip(found, read(local, lambda stream, _: stream), strict=True):
                for name, array in theirs.items():
                    np.testing.assert_array_equal(mine[name], array)
                if not whole:
                    break
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
    with (
        closing(FetchedAhead(batches(store, plan, frozenset(), 0, 5), shards, 0, 5, 10.0)) as found,
        pytest.raises(UserError, match=r"shards/part-.*: missing; copy the store again"),
    ):
        list(found)


@pytest.mark.parametrize("slow", ["fetching", "decoding"])
def test_a_wait_for_shards_is_told_from_one_for_decoding(slow, store, relay, monkeypatch):
    """A batch takes a second longer, for the one reason or the other."""
    is_asked = threading.Event()
    if slow == "fetching":

        def delayed(name, number, body):
            is_asked.wait()
            time.sleep(1)
            return 200, body

        relay.faults = delayed
    else:
        read = Store.record
        monkeypatch.setattr(Store, "record", lambda store, i: [read(store, i), time.sleep(1)][0])
    plan = Plan(store.samples, (0.6,), 0.6, seed=0)  # one recording in a batch
    shards = partial(shards_of, store, plan, False, (0, 1))
    with closing(FetchedAhead(batches(store, plan, frozenset(), 0, 12), shards, 0, 12, 60.0)) as found:
        asked = time.monotonic()
        is_asked.set()
        next(found)
        waited = time.monotonic() - asked
        assert found.fetch_wait > 0.5 if slow == "fetching" else waited - found.fetch_wait > 0.5
        wait_until(lambda: len(found._ahead._missing) == 11 and not any(found._ahead._missing.values()))
        next(found)
        assert found.fetch_wait == 0


def test_the_ledger_has_both_waits(monkeypatch):
    clock = Clock(0)
    monkeypatch.setattr(time, "monotonic", lambda: 105.0)
    for fetching, expected in ((2.0, 2.0), (9.0, 5.0), (0.0, 0.0)):
        before = dict(clock.spent)
        found = clock.waited(100.0, fetching)
        assert found == (expected, 5 - expected)
        spent = clock.spent["fetch_wait"] - before["fetch_wait"], clock.spent["data_wait"] - before["data_wait"]
        assert spent == pytest.approx(found)


def test_a_shard_of_a_batch_that_was_taken_is_not_fetched_again(store, relay, monkeypatch):
    """With room for one shard, the reader fetches what could not be fetched ahead."""
    monkeypatch.setenv("JEPA_SPEECH_CACHE_GB", str(max(store.info["shard_bytes"]) / 1e9))
    monkeypatch.setattr(fetch_ahead, "FETCHERS", 1)
    fetch, results = Cache.fetch, []
    monkeypatch.setattr(Cache, "fetch", lambda *args: results.append(fetch(*args)) or results[-1])
    ahead = FetchAhead(lambda item: store.in_bucket(np.array([3 * item])), 0, 4, seconds=60)
    wait_until(lambda: results == [True, False])  # no room for the shard of item 1
    for item in range(4):
        store.read(3 * item)
    with ahead._changed:
        for _ in range(4):
            ahead.advance(time.monotonic())
    wait_until(lambda: not ahead._queue)
    ahead.close()
    assert list(fetched(relay).values()) == [1, 1, 1, 1]


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
