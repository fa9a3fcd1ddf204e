"""`--cluster`: parts on workers of Dask, of which one is killed, give what a single run gives."""

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

import distributed
import psutil
import pytest
from support.audio_files import write_tones
from support.folder_contents import contents
from support.toys import toy_anchor

from jepa_speech.cli import cluster_option, cluster_parts, main


@pytest.fixture
def audio(tmp_path, monkeypatch):
    """`prepare` of a relative path, with several shards."""
    write_tones(tmp_path / "audio", 9)
    monkeypatch.chdir(tmp_path)
    command = ["prepare", "--input", "audio", "--shard-mb", "0.01", "--workers", "1"]
    assert main([*command, "--out", "alone"]) == 0
    assert len(list(Path("alone/shards").iterdir())) > 3
    return command


@pytest.fixture(scope="module")
def dask_cluster():
    """Two worker processes, which Dask starts again after a kill."""
    options = {"threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(n_workers=2, **options) as cluster:
        yield cluster


def a_part(of: psutil.Process) -> psutil.Process:
    """The process of a part, as soon as there is one."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for child in of.children(recursive=True):
            try:
                if "jepa_speech.cli.cluster_parts" in child.cmdline():
                    return child
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.01)
    raise AssertionError("no part was started")


def start(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "jepa_speech", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_on_this_machine_with_a_part_that_is_killed(audio, tmp_path):
    process = start(*audio, "--out", "store", "--cluster", "local:2", "--parts", "3")
    a_part(psutil.Process(process.pid)).send_signal(signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert err.count("was killed (signal 9); starting it again") == 1 and "9 recordings" in out
    assert contents(tmp_path / "store") == contents(tmp_path / "alone")


def test_on_a_cluster_of_which_a_worker_is_killed(audio, tmp_path, dask_cluster):
    address = dask_cluster.scheduler_address
    process = start(*audio, "--out", "store", "--cluster", address, "--parts", "3")
    a_part(psutil.Process()).parent().send_signal(signal.SIGKILL)
    err = process.communicate(timeout=300)[1]
    assert process.returncode == 0, err
    assert contents(tmp_path / "store") == contents(tmp_path / "alone")


@pytest.mark.slow
def test_labels(audio, tmp_path, capsys):
    toy_anchor().save(tmp_path / "gmm.npz")
    shutil.copytree("alone", "store")
    label = ["label", "--anchor", "gmm.npz", "--top-k", "4"]
    assert main([*label, "--store", "alone"]) == 0
    assert main([*label, "--store", "store", "--cluster", "local:2", "--parts", "2"]) == 0
    assert "kept " in capsys.readouterr().out
    assert contents(tmp_path / "store" / "labels") == contents(tmp_path / "alone" / "labels")


@pytest.mark.parametrize("killed", ["worker", "client"])
def test_a_part_ends_with_its_worker_and_with_its_client(killed, audio, dask_cluster):
    row = json.dumps({"path": "audio/tone000.wav"}) + "\n"
    Path("long.jsonl").write_text(row * 300_000)  # minutes of work
    process = start("prepare", "--input", "long.jsonl", "--out", "store", "--cluster", dask_cluster.scheduler_address)
    try:
        part = a_part(psutil.Process())
        if killed == "worker":
            part.parent().send_signal(signal.SIGKILL)
        else:
            process.kill()
        part.wait(30)
    finally:
        process.kill()
        process.communicate()


def test_only_text_is_sent_and_only_plain_data_is_taken_back(dask_cluster, monkeypatch):
    sent = []
    submit = distributed.Client.submit

    def recorded(client, function, *arguments, **options):
        sent.append((function, arguments))
        return submit(client, function, *arguments, **options)

    monkeypatch.setattr(distributed.Client, "submit", recorded)
    monkeypatch.setattr(cluster_parts, "run_part", deque)  # which returns what only a pickle could carry
    with pytest.raises(TypeError, match="deque"):
        cluster_parts.run_parts(dask_cluster.scheduler_address, ["prepare"], 1)
    assert sent == [(deque, (["prepare", "--part", "0/1"],))]


def test_parts_get_the_options_of_the_command_with_absolute_paths(tmp_path, monkeypatch):
    class Given(Exception):
        pass

    def record(*given):
        raise Given(given)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cluster_option, "run_parts", record)
    given = ["label", "--store", "s", "--anchor", "gs://b/a.npz", "--top-k", "4", "--step", "best"]
    with pytest.raises(Given) as raised:
        main([*given, "--cluster", "tcp://h:1", "--parts", "3"])
    sent = ["label", "--store", f"{tmp_path}/s", "--anchor", "gs://b/a.npz", "--top-k", "4", "--step", "best"]
    address, command, parts, _ = raised.value.args[0]
    assert (address, sorted(command), parts) == ("tcp://h:1", sorted(sent), 3)


@pytest.mark.parametrize(
    ("options", "code", "line"),
    [
        (["--cluster", "local:0"], 2, "'local:0': local:N or tcp://HOST:PORT needed"),
        (["--cluster", "local:2", "--part", "0/2"], 2, "leave out --part"),
        (["--parts", "2"], 2, "--parts goes with --cluster"),
        (["--cluster", "tcp://127.0.0.1:9"], 1, "tcp://127.0.0.1:9: no scheduler of Dask answers there"),
        (["--cluster", "local:1", "--parts", "1"], 1, "part 0/1 ended with 1: "),
    ],
)
def test_what_is_wrong_is_one_line(options, code, line, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cluster_parts, "CONNECT_SECONDS", 0.5)
    assert main(["prepare", "--input", str(tmp_path / "none"), "--out", str(tmp_path / "store"), *options]) == code
    err = capsys.readouterr().err
    assert line in err.splitlines()[-1] and "Traceback" not in err
    assert not (tmp_path / "store" / "store.json").exists()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_server_that_is_no_scheduler_is_one_line(answer, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cluster_parts, "CONNECT_SECONDS", 0.5)
    kept = []

    def serve(listening):
        with contextlib.suppress(OSError):  # closed, at the end of the test
            while True:
                kept.append(listening.accept()[0])
                kept[-1].sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        address = f"tcp://127.0.0.1:{listening.getsockname()[1]}"
        try:
            command = ["prepare", "--input", str(tmp_path), "--out", str(tmp_path / "store"), "--cluster", address]
            assert main(command) == 1
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in kept:
                connection.close()
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{address}: no scheduler of Dask answers there (another program listens there)" in line


def test_without_dask_it_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main(["prepare", "--input", str(tmp_path), "--out", str(tmp_path / "store"), "--cluster", "local:1"]) == 1
    assert "pip install distributed" in capsys.readouterr().err
