"""lock.py: a second process is refused by name, and a kill leaves no lock."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from jepa_speech.errors import UserError
from jepa_speech.lock import locked

HOLD = """
import sys, time
from jepa_speech.lock import locked
with locked(sys.argv[1], "train"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_and_a_kill_frees(tmp_path):
    lock = tmp_path / "run" / ".lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        line = f"{lock.parent}: in use by process {holder.pid} on {socket.gethostname()} \\(train\\)"
        with pytest.raises(UserError, match=line), locked(lock, "train"):
            pass
        os.kill(holder.pid, signal.SIGKILL)
    with locked(lock, "label"):
        assert f"process {os.getpid()} on" in lock.read_text()
    assert lock.exists()


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch, capsys):
    def no_locks(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.lockf", no_locks)
    with locked(tmp_path / ".lock", "train"):
        assert "has no locks" in capsys.readouterr().err


def refused(lock, shared):
    """Whether another process is refused the lock."""
    line = f"from jepa_speech.lock import locked\nwith locked({str(lock)!r}, 'x', {shared}): pass"
    return subprocess.run([sys.executable, "-c", line], stderr=subprocess.DEVNULL).returncode != 0


def test_a_nested_lock_does_not_end_the_outer_one(tmp_path):
    lock = tmp_path / ".lock"
    with locked(lock, "label"):
        with locked(lock, "join"):
            pass
        assert refused(lock, shared=False)
    assert not refused(lock, shared=False)


def test_shared_locks_exclude_only_those_that_want_it_alone(tmp_path):
    lock = tmp_path / ".lock"
    with locked(lock, "part", shared=True):
        assert not refused(lock, shared=True)
        assert refused(lock, shared=False)


def test_a_foreign_file_of_that_name_is_kept(tmp_path):
    lock = tmp_path / ".lock"
    lock.write_text("notes")
    with pytest.raises(UserError, match="not written by jepa-speech"), locked(lock, "train"):
        pass
    assert lock.read_text() == "notes"
