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
