"""A store in a bucket is read like a local one, whatever the server does, through a cache that keeps its bound."""

import itertools
import pickle
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from support.bucket_servers import BUCKET, environment, put, upload

import jepa_speech
from jepa_speech.cloud import cache as caching
from jepa_speech.cloud import objects, waiting
from jepa_speech.errors import UsageError, UserError
from jepa_speech.store.labels import Labels
from jepa_speech.store.store import Store

NUMBERS = itertools.count()


@pytest.fixture
def use(monkeypatch, tmp_path):
    """use(scheme, address, cache="cache", **environment): names a server and a cache to the program."""

    def named(scheme: str, url: str, cache: str = "cache", **more: str) -> None:
        for name, value in (environment(scheme, url, tmp_path / cache) | more).items():
            monkeypatch.setenv(name, value)

    return named


def uploaded(scheme: str, servers: dict[str, str], store: Store) -> str:
    return upload(scheme, servers[scheme], store.path, f"my stores/mine{next(NUMBERS)}")


def named(url: str) -> str:
    """The name of the objects of a URL in the bucket."""
    return url.partition(f"://{BUCKET}/")[2]


def shards(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("shards/*") if path.is_file()]


def agree(found: Store, local: Store) -> None:
    for i in range(len(local)):
        np.testing.assert_array_equal(found.read(i), local.read(i))


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_it_is_read_like_a_local_one(scheme, servers, local, anchor, use, tmp_path):
    use(scheme, servers[scheme])
    url = uploaded(scheme, servers, local)
    for found in (Store(url), Store(Path(url)), pickle.loads(pickle.dumps(Store(url)))):
        assert (found.fingerprint, found.name, len(found)) == (local.fingerprint, url, len(local))
        agree(found, local)
        assert list(found.records()) == list(local.records())
        for name, column in local.index.items():
            np.testing.assert_array_equal(found.index[name], column)
        labels, expected = Labels(found, anchor), Labels(local, anchor)
        for mine, theirs in zip(labels.slice(3, 1, 20), expected.slice(3, 1, 20), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert repr(found).startswith(f"Store('{url}': 12 recordings")
    assert len(shards(tmp_path)) == len(local.info["shard_bytes"]) > 3


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_inspect_describes_and_verifies_it(scheme, servers, local, anchor, use):
    use(scheme, servers[scheme])
    url = uploaded(scheme, servers, local)
    expected = jepa_speech.inspect(local.path) | {"store": url, "sources": Store(url).sources}
    assert jepa_speech.inspect(url) == expected
    assert expected["labels"] == [anchor.fingerprint[:12]]
    assert jepa_speech.inspect(url, verify="decode")["damage"] == []
    shard = (local.path / "shards" / "part-00001.array_record").read_bytes()
    put(scheme, servers[scheme], f"{named(url)}/shards/part-00001.array_record", shard[::-1])
    use(scheme, servers[scheme], "other")
    (damage,) = jepa_speech.inspect(url, verify="crc")["damage"]
    assert damage["shard"] == "part-00001.array_record" and "not the bytes that were written" in damage["what"]


def test_each_shard_is_fetched_once_by_all_threads_and_processes(relay, servers, local, use, tmp_path):
    use("s3", relay.url)
    url = uploaded("s3", servers, local)
    code = "import sys; from jepa_speech.store.store import Store; s = Store(sys.argv[1])\n[*map(s.read, range(12))]"
    with subprocess.Popen([sys.executable, "-c", code, url]) as other:
        store = Store(url)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(store.read, 3 * [*range(len(store))]))
        assert other.wait() == 0
    fetched = {name: count for name, count in relay.got.items() if "/shards/" in name}
    assert set(fetched.values()) == {1} and len(fetched) == len(local.info["shard_bytes"])


@pytest.mark.parametrize("threads", [1, 4])
def test_the_bound_is_passed_by_one_shard_at_most(threads, relay, servers, local, use, tmp_path):
    largest = max(local.info["shard_bytes"])
    bound = 1.2 * largest
    use("s3", relay.url, JEPA_SPEECH_CACHE_GB=str(bound / 1e9))
    store = Store(uploaded("s3", servers, local))
    relay.faults = lambda name, number, body: time.sleep(0.02) or (200, body)  # so that several are fetched at a time
    most, done = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.is_set():
            with caching._locked(tmp_path / "cache" / ".lock"):  # sizes change while they are added up
                most = max(most, sum(map(caching._size, shards(tmp_path))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    order = np.random.default_rng(0).integers(len(store), size=60).tolist()
    try:
        with ThreadPoolExecutor(threads) as pool:
            for i, wave in zip(order, pool.map(store.read, order), strict=True):
                np.testing.assert_array_equal(wave, local.read(i))
    finally:
        done.set()
        watcher.join()
    assert largest <= most <= bound + largest
    open_files = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    evicted = [path for path in open_files if "/shards/" in path and path.endswith("(deleted)")]
    assert len(evicted) <= threads


def test_a_broken_response_is_asked_for_again(relay, servers, local, use, capfd):
    use("s3", relay.url)
    url = uploaded("s3", servers, local)
    relay.faults = lambda name, number, body: (
        (503, b"later")
        if "part-00000" in name and number < 3
        else (200, body[: len(body) // 2])
        if "part-00001" in name and number == 1
        else (200, body)
    )
    agree(Store(url), local)


def test_a_server_that_only_fails_is_named_in_one_line(relay, servers, local, use, monkeypatch):
    monkeypatch.setattr(objects, "ONE_REQUEST", 1.0)
    use("s3", relay.url)
    url = uploaded("s3", servers, local)
    store = Store(url)
    relay.faults = lambda name, number, body: (500, b"<Error>AKIA</Error>")
    with pytest.raises(UserError) as error:
        store.read(0)
    said = "cannot be read (status code: 500 Internal Server Error); try again later"
    assert str(error.value) == f"{url}/shards/part-00000.array_record: {said}"
    assert not shards(store.path)
    relay.faults = lambda name, number, body: (500, b"") if "/shards/part" in name else (200, body)
    with pytest.raises(UserError, match="array_record: cannot be read"):  # which is no damage
        jepa_speech.inspect(url, verify="crc")


def test_a_shard_with_other_bytes_is_refused(relay, servers, local, use, tmp_path):
    use("s3", relay.url)
    url = uploaded("s3", servers, local)
    store = Store(url)
    relay.faults = lambda name, number, body: (200, body[:-1] + bytes([body[-1] ^ ("/shards/" in name)]))
    with pytest.raises(UserError, match=r"shards/part-00000.array_record: not the bytes that were written"):
        store.read(0)
    assert not shards(tmp_path)
    relay.faults = lambda name, number, body: (200, body)
    agree(store, local)


def test_a_shard_that_was_replaced_by_a_shorter_one_is_refused(servers, local, use):
    use("s3", servers["s3"])
    url = uploaded("s3", servers, local)
    store = Store(url)
    put("s3", servers["s3"], f"{named(url)}/shards/part-00000.array_record", b"short")
    with pytest.raises(UserError, match=r"part-00000.array_record: has 5 bytes, not the \d+ that were written"):
        store.read(0)
    with pytest.raises(UserError, match=rf"^{url}/shards/part-00000.array_record: missing, or not of the size"):
        Store(url)


def test_a_store_that_replaces_another_is_read_anew(servers, local, use, tmp_path):
    use("s3", servers["s3"])
    url = uploaded("s3", servers, local)
    Store(url).read(0)
    jepa_speech.join_stores([local.path, _other(tmp_path)], tmp_path / "joined")
    upload("s3", servers["s3"], tmp_path / "joined", named(url))
    agree(Store(url), Store(tmp_path / "joined"))


def _other(folder: Path) -> Path:
    from support.audio_files import write_tones

    write_tones(folder / "audio", 2, seed=50)
    jepa_speech.prepare(folder / "audio", folder / "other", codec="pcm16")
    return folder / "other"


def test_labels_that_were_made_again_are_fetched_again(servers, local, anchor, use, tmp_path):
    use("s3", servers["s3"])
    url = uploaded("s3", servers, local)
    assert Labels(Store(url), anchor).top_k == 2
    meta = local.path / "labels" / anchor.fingerprint[:12] / "meta.json"
    put("s3", servers["s3"], f"{named(url)}/labels/{meta.parent.name}/meta.json", b"{}")
    with pytest.raises(UserError, match="labels of anchor None"):
        Labels(Store(url), anchor)


def test_what_a_killed_process_left_is_removed(servers, local, use, tmp_path):
    use("s3", servers["s3"])
    store = Store(uploaded("s3", servers, local))
    left = store.path / "shards" / ".part-00009.array_record.part"
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(bytes(1000))
    store.read(0)
    assert [path.name for path in shards(tmp_path)] == ["part-00000.array_record"]


def test_a_full_disk_is_named_and_leaves_nothing(servers, local, use, monkeypatch, tmp_path):
    use("s3", servers["s3"])
    store = Store(uploaded("s3", servers, local))
    usage = caching.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(caching.shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(UserError, match=r"cache: the disk is full; free some space, or name a folder on a larger disk"):
        store.read(0)
    assert not shards(tmp_path)


def test_without_a_server_a_line_says_so(use):
    use("s3", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"^s3://b/x/store.json: cannot be read \(HTTP error: .*\); check the network"):
        Store("s3://b/x")


def test_without_credentials_a_line_says_what_to_do(use, servers, monkeypatch):
    use("s3", servers["s3"], AWS_METADATA_ENDPOINT="http://127.0.0.1:9")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(UserError, match=r"^s3://b/x/store.json: no credentials were found; set AWS_ACCESS_KEY_ID"):
        Store("s3://b/x")


def test_a_silent_server_is_given_up(use, monkeypatch, capfd):
    monkeypatch.setattr(objects, "ONE_REQUEST", 0.5)
    monkeypatch.setattr(waiting, "SLOW", 0.15)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        use("s3", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(UserError, match=r"^s3://b/x/store.json: cannot be read"):
            Store("s3://b/x")
    lines = [f"s3://b/x/store.json: still waiting after {seconds} s\n" for seconds in ("0.15", "0.3", "0.45")]
    assert capfd.readouterr().err.startswith("".join(lines))


def test_an_empty_folder_is_no_store(servers, use):
    use("s3", servers["s3"])
    with pytest.raises(UserError, match=r"^s3://bucket/none: not a complete store \(no store.json\)"):
        Store(f"s3://{BUCKET}/none")
    put("s3", servers["s3"], "unfinished/work/plan.json", b"{}")
    with pytest.raises(UserError, match=r"\(no store.json\); run the same prepare command again, or inspect --merge"):
        Store(f"s3://{BUCKET}/unfinished")


def test_wrong_settings_are_named(use, servers, monkeypatch):
    use("s3", servers["s3"], JEPA_SPEECH_CACHE_GB="many")
    with pytest.raises(UsageError, match="JEPA_SPEECH_CACHE_GB is 'many': set it to a number of GB above 0"):
        caching.cache()
    with pytest.raises(UsageError, match=r"s3://b/../x: not the URL of a folder in a bucket"):
        Store("s3://b/../x")
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(UsageError, match=r"need obstore: pip install"):
        Store("s3://b/x")
