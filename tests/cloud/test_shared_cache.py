"""Processes that share a cache update the same folder one after another, and leave each other's files alone."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.bucket_servers import BUCKET, Relay, environment, put

from jepa_speech.api.fit_shared import writing
from jepa_speech.cloud import waiting
from jepa_speech.cloud.folders import read_folder
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
