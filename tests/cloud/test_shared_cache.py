"""Processes that share a cache update the same folder one after another, and leave each other's files alone."""

import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.audio_files import write_tones
from support.bucket_servers import BUCKET, Relay, environment, names, put

import jepa_speech
from jepa_speech.api.fit_shared import writing
from jepa_speech.cloud import waiting
from jepa_speech.cloud.arguments import with_urls
from jepa_speech.cloud.folders import new_folder, pictures_first, read_folder, written_folder
from jepa_speech.errors import UserError
from jepa_speech.ingest.in_bucket import local_input
from jepa_speech.lock import LOCK
from jepa_speech.pretrained.from_bucket import local_model
from jepa_speech.training.run_in_bucket import local_run

FILES = {
    "config.json": b"{}",
    "a.flac": b"a recording",
    "checkpoints/6/checksums.json": b"[]",
    "checkpoints/6/weights/a": b"an array",
}


def model(url: str) -> Path:
    return local_model(url, [])


def data(url: str) -> Path:
    with read_folder(url, {}) as folder:
        return folder


@pytest.fixture
def relay(servers, monkeypatch, tmp_path):
    relay = Relay(servers["s3"])
    for name, value in environment("s3", relay.url, tmp_path / "cache").items():
        monkeypatch.setenv(name, value)
    yield relay
    relay.close()


@pytest.mark.parametrize("other", ["shared", "shared/runs/mine"])
@pytest.mark.parametrize("fetched", [model, local_input, data])
def test_folders_of_a_bucket_are_fetched_one_after_another(fetched, other, relay, servers, monkeypatch, capsys):
    for name, body in FILES.items():
        put("s3", servers["s3"], f"shared/runs/mine/{name}", body)
    monkeypatch.setattr(waiting, "SLOW", 0.05)
    fetching, go_on = threading.Event(), threading.Event()

    def held_up(name, number, body):
        fetching.set()
        go_on.wait()
        return 200, body

    relay.faults = held_up
    said = ""
    with ThreadPoolExecutor(3) as pool:
        try:
            first = pool.submit(fetched, f"s3://{BUCKET}/shared/runs/mine")
            assert fetching.wait(60)
            relay.faults = lambda name, number, body: (200, body)
            others = [pool.submit(fetched, f"s3://{BUCKET}/{other}") for _ in range(2)]
            # Until the others wait, or, if they should not, have done what they could.
            while said.count(f"s3://{BUCKET}/{other} (another process") < 2 and not all(one.done() for one in others):
                time.sleep(0.01)
                said += capsys.readouterr().err
        finally:
            go_on.set()
        folder = first.result()
        for one in others:
            one.result()
    assert set(relay.got.values()) == {1}
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    assert {name for name in FILES if name != "a.flac" or fetched != local_input} <= found.keys() <= FILES.keys()
    for name, path in found.items():
        assert path.stat().st_size == len(FILES[name])
        assert path.read_bytes() == FILES[name] or (name, fetched) == ("a.flac", local_input)


OUTPUT = """
import sys
from jepa_speech.cloud.folders import FolderInBucket, held
from jepa_speech.errors import UserError
try:
    with held(FolderInBucket(sys.argv[1], "written", str).folder, shared=len(sys.argv) > 2):
        print("held", flush=True)
        sys.stdin.read()
except UserError as error:
    print(error)
"""


@contextmanager
def another(*arguments: str):
    """Another process that writes to an output in a bucket."""
    command = [sys.executable, "-c", OUTPUT, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline()
        finally:
            process.stdin.close()


def test_outputs_in_one_another_are_written_one_after_another(machine, monkeypatch, tmp_path):
    machine("cache")
    write_tones(tmp_path / "audio", 1)
    url = f"s3://{BUCKET}/outputs/a"
    with another(url) as said:
        assert said == "held\n"
        for name in ("outputs", "outputs/a", "outputs/a/b/c"):
            for kind in (written_folder(pictures_first), new_folder("y")):
                line = rf"^{re.escape(str(tmp_path))}.*/outputs.* in use by process"
                with pytest.raises(UserError, match=line), kind(f"s3://{BUCKET}/{name}", {}):
                    pass
            with pytest.raises(UserError, match="in use by process"):
                jepa_speech.prepare(tmp_path / "audio", f"s3://{BUCKET}/{name}", workers=1)
        with written_folder(pictures_first)(f"s3://{BUCKET}/outputs/b", {}) as folder:
            (folder / "x").touch()

    said, remove = [], shutil.rmtree

    def removed(folder):
        remove(folder)
        with another(url) as line:
            said.append(line)

    monkeypatch.setattr(shutil, "rmtree", removed)
    for kind in (new_folder("y"), written_folder(pictures_first)):
        with kind(url, {}) as folder:
            for name in ("x", "y"):
                (folder / name).touch()
    assert len(said) == 2 and all(f"{url}: in use by process" in with_urls(line) for line in said)


def test_a_part_that_is_being_written_is_not_removed(machine, bucket, tmp_path):
    """Another store has meanwhile replaced the one in the bucket."""
    cache, url = machine("cache"), f"s3://{BUCKET}/replaced"
    for i in range(2):
        write_tones(tmp_path / str(i), 2, seed=i)
    first, second = ((tmp_path / str(i), url) for i in range(2))
    jepa_speech.prepare(*first, part=(0, 2), workers=1)
    there = {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}
    for name in names(bucket, "replaced"):
        bucket.delete(f"replaced/{name}")
    machine("other")
    jepa_speech.prepare(*second, part=(0, 2), workers=1)
    machine("cache")
    with another(url, "shared") as said:
        assert said == "held\n"
        with pytest.raises(UserError, match=f"^{url}: in use by process"):
            jepa_speech.prepare(*second, part=(1, 2), workers=1)
        assert all(path.read_bytes() == data for path, data in there.items() if path.name != LOCK)
    assert not jepa_speech.prepare(*second, part=(1, 2), workers=1)["whole"]


HOLDS = """
import sys
from jepa_speech.lock import locked
with locked(sys.argv[1], "write"):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("written", [writing, lambda url: local_run(url, None)])
def test_nothing_is_fetched_over_what_another_process_writes(written, relay, servers, tmp_path):
    for name, body in {**FILES, "a.npz": b"old", "a.metrics.jsonl": b"{}\n"}.items():
        put("s3", servers["s3"], f"busy/{name}", body)
    anchor = written is writing
    folder = tmp_path / "cache" / ("files" if anchor else "runs") / "s3" / BUCKET / "busy"
    (new := folder / "checkpoints" / "7" / "new").parent.mkdir(parents=True)
    rows = folder / ("a.metrics.jsonl" if anchor else "config.json")
    for path in (new, rows):
        path.write_bytes(b"newer")
    lock = folder / (".a.npz.jepa-speech.lock" if anchor else LOCK)
    command = [sys.executable, "-c", HOLDS, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(UserError, match="in use by process"), written(f"s3://{BUCKET}/busy" + "/a.npz" * anchor):
            pass
        process.stdin.close()
    assert new.read_bytes() == rows.read_bytes() == b"newer"
