"""A full disk, kills, other trainings and slow servers leave no shard that is not whole, and are said in a line."""

import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from support.audio_files import write_tones
from support.bucket_servers import BUCKET, environment, upload

from jepa_speech.cloud import cache as caching
from jepa_speech.cloud import objects, waiting
from jepa_speech.errors import UserError
from jepa_speech.store.prepare import prepare
from jepa_speech.store.store import Store


@pytest.fixture
def url(request, relay, servers, local, monkeypatch, tmp_path):
    """The store in a bucket behind the relay, with an empty cache."""
    for name, value in environment("s3", relay.url, tmp_path / "cache").items():
        monkeypatch.setenv(name, value)
    return upload("s3", servers["s3"], local.path, f"faults/{request.node.name}")


def agree(found: Store, local: Store) -> None:
    for i in range(len(local)):
        np.testing.assert_array_equal(found.read(i), local.read(i))


def cached(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("shards/*") if path.is_file()}


def namespaces() -> bool:
    """Whether this user may mount a file system of his own."""
    mount = "mount -t tmpfs none /mnt"
    return not subprocess.run(["unshare", "-rm", "sh", "-c", mount], check=False, capture_output=True).returncode


FULL = """
import os, sys
from pathlib import Path
from jepa_speech.cloud.objects import Objects
from jepa_speech.errors import UserError
from jepa_speech.store.store import Store
url, folder = sys.argv[1], Path(os.environ["JEPA_SPEECH_CACHE"])
others = folder / "others"

def fill():
    with others.open("ab", buffering=0) as file:
        try:
            while file.write(bytes(1024)):
                pass
        except OSError as error:
            assert error.errno == 28

def check(call, *words):
    try:
        call()
    except UserError as error:
        print(error)
        assert all(word in str(error) for word in words)
    else:
        raise AssertionError("no error")

fill()
check(lambda: Store(url), "cannot be written (No space left on device)", "free some space")  # at store.json
others.unlink()
download = Objects.download
Objects.download = lambda *args: fill() or download(*args)  # others write while an object is fetched
check(lambda: Store(url), "cannot be written (No space left on device)", "free some space")  # at its index
others.unlink()
Objects.download = download
store = Store(url)
store.read(0)
Objects.download = lambda *args: fill() or download(*args)
check(lambda: store.read(3), "cannot be written (No space left on device)", "free some space")
Objects.download = download
check(lambda: store.read(3), "the disk is full", "free some space")
assert not [path for path in folder.rglob("shards/*") if path.stat().st_blocks * 512 < path.stat().st_size]
others.unlink()
store.read(3)
"""


def test_a_disk_that_is_full_is_named_and_work_goes_on_once_it_is_not(url, local, tmp_path):
    if not namespaces():
        pytest.skip("this user may not mount a file system")
    (tmp_path / "cache").mkdir()
    size = 3 * max(local.info["shard_bytes"])
    mount = f'mount -t tmpfs -o size={size} none "$0" && exec "$@"'
    run = [sys.executable, "-c", FULL, url]
    subprocess.run(["unshare", "-rm", "sh", "-c", mount, str(tmp_path / "cache"), *run], check=True)


def test_a_limit_of_file_sizes_is_named(url, local, tmp_path):
    store = Store(url)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(UserError, match=r"cache: cannot be written \(File too large\); free some space"):
            store.read(0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not cached(tmp_path)
    agree(store, local)


READ = "import sys; from jepa_speech.store.store import Store; Store(sys.argv[1]).read(0)"


def test_a_kill_in_the_middle_of_a_fetch_leaves_no_shard(url, relay, local, tmp_path):
    hang = threading.Event()

    def half(name, number, body):
        def parts():
            yield body[: len(body) // 2]
            hang.wait(60)

        return (200, parts()) if "/shards/" in name and number == 1 else (200, body)

    relay.faults = half
    with subprocess.Popen([sys.executable, "-c", READ, url]) as child:
        while not any(path.stat().st_size for path in tmp_path.rglob("shards/*")):
            assert child.poll() is None
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
    hang.set()
    assert cached(tmp_path) == {".part-00000.array_record.part"}
    agree(Store(url), local)
    assert cached(tmp_path) == {path.name for path in local.path.glob("shards/*")}


TRAIN = """
import sys
from contextlib import closing
from functools import partial
import numpy as np
from jepa_speech.batches.batch_plan import Plan
from jepa_speech.batches.fetch_ahead import FetchedAhead
from jepa_speech.batches.pipeline import batches
from jepa_speech.store.store import Store
from jepa_speech.training.run_batches import shards_of

def read(store):
    plan = Plan(store.samples, (0.6,), 1.5, seed=int(sys.argv[3]))
    return plan, batches(store, plan, frozenset(), 0, 30)

store, local = Store(sys.argv[1]), Store(sys.argv[2])
plan, stream = read(store)
with closing(FetchedAhead(stream, partial(shards_of, store, plan, False, (0, 1)), 0, 30, 60.0)) as found:
    for mine, theirs in zip(found, read(local)[1], strict=True):
        np.testing.assert_array_equal(mine["audio"], theirs["audio"])
"""


@pytest.mark.parametrize("shards", [1.2, 100])
def test_two_trainings_share_a_cache(shards, url, relay, local, monkeypatch):
    """Each reads its own order, whether the cache holds the store or little more than a shard."""
    monkeypatch.setenv("JEPA_SPEECH_CACHE_GB", str(shards * max(local.info["shard_bytes"]) / 1e9))
    command = [sys.executable, "-c", TRAIN, url, str(local.path)]
    both = [subprocess.Popen([*command, str(seed)]) for seed in (1, 2)]
    assert [each.wait(timeout=120) for each in both] == [0, 0]
    if shards == 100:
        assert {count for name, count in relay.got.items() if "/shards/" in name} == {1}


def test_a_store_that_is_replaced_while_it_is_read_is_named(url, servers, local, tmp_path):
    store = Store(url)
    store.read(0)
    write_tones(tmp_path / "audio", 12, seconds=0.5, seed=50)
    prepare([tmp_path / "audio"], tmp_path / "other", "pcm16", workers=1, shard_mb=0.04)
    upload("s3", servers["s3"], tmp_path / "other", url.partition(f"{BUCKET}/")[2])
    np.testing.assert_array_equal(store.read(1), local.read(1))  # its shard is in the cache
    with pytest.raises(UserError, match=rf"^{url}: another store replaced it while it was read; start again"):
        store.read(len(local) - 1)


def test_a_response_that_stalls_is_read_again_and_a_slow_one_is_not(url, relay, local, monkeypatch, capfd):
    monkeypatch.setattr(objects, "ONE_REQUEST", 1.0)

    def slowly(name, number, body):
        def parts():
            for part in range(4):
                yield body[part * len(body) // 4 : (part + 1) * len(body) // 4]
                time.sleep(3 if "part-00001" in name and number == 1 and part == 1 else 0.4)

        return (200, parts()) if "/shards/" in name else (200, body)

    relay.faults = slowly
    agree(Store(url), local)
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1 and "part-00001" in said[0] and said[0].endswith("; reading it again")
    assert relay.got[next(name for name in relay.got if "part-00000" in name)] == 1


def test_a_wait_for_another_process_is_said(url, local, monkeypatch, capfd):
    monkeypatch.setattr(waiting, "SLOW", 0.2)
    store = Store(url)
    shard = store.path / "shards" / "part-00000.array_record"
    with caching._part_of(shard, "held"):
        reader = threading.Thread(target=store.read, args=(0,))
        reader.start()
        time.sleep(0.7)
    reader.join()
    line = f"{url}/shards/part-00000.array_record (another process or thread fetches it): still waiting after 0.2 s"
    assert capfd.readouterr().err.splitlines()[0] == line
