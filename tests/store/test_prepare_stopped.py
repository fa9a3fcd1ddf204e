"""Making a store that is stopped by a kill, a worker that dies or a full disk: resumable, never half-written."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from support.audio_files import write_tones
from support.folder_contents import contents

from jepa_speech.errors import UserError
from jepa_speech.store.prepare import prepare
from jepa_speech.store.store import Store


@pytest.fixture
def tones(tmp_path):
    write_tones(tmp_path / "audio", 10)
    return tmp_path / "audio"


# A shell that starts the tests in the background lets them, and so this, ignore SIGINT.
RUN = """
import signal, sys, time
from jepa_speech.ingest import audio
from jepa_speech.store import chunks, prepare
signal.signal(signal.SIGINT, signal.default_int_handler)
chunks.CHUNK_RECORDS = 2
if __name__ == "__main__":
    if sys.argv[3] == "slow":
        load = audio.load_with_rate
        audio.load_with_rate = lambda path: (time.sleep(0.05), load(path))[1]
    prepare.prepare([sys.argv[1]], sys.argv[2], workers=1)
"""


def with_workers(folder, reading):
    """The script with two workers, and the environment in which they read a file by the expression `reading`."""
    (folder / "run.py").write_text(RUN.replace("workers=1", "workers=2"))
    (folder / "sitecustomize.py").write_text(  # workers do not import the script
        f"import os, time\nfrom jepa_speech.ingest import audio\naudio.load_with_rate = lambda path: {reading}\n"
    )
    return os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{os.environ['PYTHONPATH']}"}


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGINT])
def test_killed_and_run_again(tones, tmp_path, signal_number):
    """What was finished is not done again, and the store is the one that was never interrupted."""
    (tmp_path / "run.py").write_text(RUN)
    command = [sys.executable, str(tmp_path / "run.py"), str(tones)]
    store = tmp_path / "store"
    slow = subprocess.Popen([*command, str(store), "slow"], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not (done := sorted((store / "work").glob("part-*.jsonl"))):
            assert slow.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        slow.send_signal(signal_number)
        slow.wait()
    assert not (store / "store.json").exists()
    with pytest.raises(UserError, match="unfinished"):
        Store(store)
    finished = {path.name: (store / "shards" / f"{path.stem}.array_record").stat().st_mtime_ns for path in done}
    subprocess.run([*command, str(store), "fast"], check=True)
    subprocess.run([*command, str(tmp_path / "whole"), "fast"], check=True)
    assert contents(store) == contents(tmp_path / "whole")
    for name, written in finished.items():
        assert (store / "shards" / f"{Path(name).stem}.array_record").stat().st_mtime_ns == written


def test_workers_die_with_a_killed_parent(tones, tmp_path):
    environment = with_workers(tmp_path, "time.sleep(60)")
    command = [sys.executable, str(tmp_path / "run.py"), str(tones), str(tmp_path / "store"), "fast"]
    parent = subprocess.Popen(command, env=environment)
    try:
        deadline = time.monotonic() + 60
        while len(list((tmp_path / "store" / "shards").glob("*.tmp"))) < 2:
            assert parent.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        workers = psutil.Process(parent.pid).children(recursive=True)
    finally:
        parent.kill()
        parent.wait()
    assert len(workers) >= 2
    _, alive = psutil.wait_procs(workers, timeout=30)
    alive = [worker for worker in alive if worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE]
    for worker in alive:
        worker.kill()
    assert not alive


def test_a_worker_that_dies_is_one_clear_error(tones, tmp_path):
    environment = with_workers(tmp_path, "os._exit(9)")
    command = [sys.executable, str(tmp_path / "run.py"), str(tones), str(tmp_path / "store"), "fast"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert run.returncode == 1 and "UserError: a worker died (out of memory?)" in run.stderr
    with pytest.raises(UserError, match="unfinished"):
        Store(tmp_path / "store")


@pytest.mark.parametrize("limit", [10, 70_000])
def test_full_disk_is_one_line_and_the_store_stays_unfinished(tones, tmp_path, limit):
    """The limit on the size of a file stands for the disk: it hits the list of files, or a shard."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(
            UserError, match=r"store: cannot be written \(.*File too large.*run the same command"
        ) as error:
            prepare([tones], tmp_path / "store", "pcm16", workers=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="unfinished"):
        Store(tmp_path / "store")
    prepare([tones], tmp_path / "store", "pcm16", workers=1)
    prepare([tones], tmp_path / "whole", "pcm16", workers=1)
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")


def test_no_room_for_the_last_file(tones, tmp_path, monkeypatch):
    def full(path, value):
        if path.name == "store.json":
            raise OSError(28, os.strerror(28))

    monkeypatch.setattr("jepa_speech.store.finalize.write_json", full)
    with pytest.raises(UserError, match="No space left on device"):
        prepare([tones], tmp_path / "store", workers=1)
    with pytest.raises(UserError, match="unfinished"):
        Store(tmp_path / "store")
