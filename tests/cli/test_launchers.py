"""launch/local.sh: what starts again, what ends all, and two processes that end as one does.

jepa-speech is a stand-in on PATH where it is not what is tested.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest
from support.clustered_audio import babble_store

from jepa_speech.cli import main

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
SMALL = {"data.buckets": "1.0", "train.steps": "4"}
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
NASTY = "--config.data.store=/a b/$(touch x)';\"*"


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


# A jepa-speech that returns a code of the list in turn; the last of several processes does.
# A turn that saves leaves a checkpoint.
CODES = """
n=$(cat "$TURN" 2>/dev/null || echo 0); echo $((n + 1)) >"$TURN"; set -- $CODES; shift $n
case $1 in
    saves) mkdir -p ${SAVED:-r}/checkpoints/$n; exit 75 ;;
    half) mkdir -p r/checkpoints/$n.orbax-checkpoint-tmp; exit 134 ;;
    killed) kill -9 $$ ;;
    *) exit $1 ;;
esac"""
LAST = "[ ${JEPA_SPEECH_PROCESS:-0} = $((${JEPA_SPEECH_PROCESSES:-1} - 1)) ] || exec tail -f /dev/null; "


@pytest.mark.parametrize(
    ("processes", "codes", "ended", "runs"),
    [
        (1, "75 134 killed 0", 0, 4),
        (1, "3", 3, 1),
        (1, "75 " * 9, 75, 5),  # a process on another machine does not come
        (1, "half " * 9, 134, 5),
        (1, "134 134 134 134 saves 134 134 134 134 0", 0, 10),
        (3, "killed 77", 77, 2),
    ],
)
def test_local_starts_all_again_or_ends_all(processes, codes, ended, runs, stand_in, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURN", str(tmp_path / "turn"))
    monkeypatch.setenv("CODES", codes)
    note = f'echo "$JEPA_SPEECH_COORDINATOR" >>{tmp_path}/coordinators; echo $$ >>{tmp_path}/pids; '
    said = stand_in("jepa-speech", note + LAST + CODES)
    faster = tmp_path / "bin" / "sleep"
    faster.write_text(f"#!/bin/sh\nexec {shutil.which('sleep')} 0.05\n")
    faster.chmod(0o755)
    options = [str(processes)] if processes > 1 else []
    done = subprocess.run([LAUNCH / "local.sh", "c.py", "r", *options, NASTY], check=False)
    assert (done.returncode, len(said())) == (ended, runs * processes)
    assert said()[0] == ["jepa-speech", "train", "--config", "c.py", "--workdir", "r", NASTY]
    coordinators = (tmp_path / "coordinators").read_text().split()
    assert len(set(coordinators)) == (runs if processes > 1 else 0)
    assert all(address.startswith("127.0.0.1:") for address in coordinators)
    assert not [pid for pid in (tmp_path / "pids").read_text().split() if Path("/proc", pid).exists()]


@pytest.mark.parametrize("kind", ["runs", "peers"])
def test_local_sees_the_checkpoints_of_a_run_in_a_bucket(kind, stand_in, tmp_path, monkeypatch):
    """Other machines than that of process 0 get them when they start."""
    monkeypatch.setenv("TURN", str(tmp_path / "turn"))
    monkeypatch.setenv("CODES", "134 134 134 134 saves 134 134 134 134 0")
    monkeypatch.setenv("JEPA_SPEECH_CACHE", str(tmp_path / "my cache"))
    monkeypatch.setenv("SAVED", str(tmp_path / "saved"))
    (tmp_path / "my cache" / kind / "gs" / "b").mkdir(parents=True)
    (tmp_path / "my cache" / kind / "gs" / "b" / "r").symlink_to(tmp_path / "saved")
    said = stand_in("jepa-speech", CODES)
    faster = tmp_path / "bin" / "sleep"
    faster.write_text(f"#!/bin/sh\nexec {shutil.which('sleep')} 0.05\n")
    faster.chmod(0o755)
    done = subprocess.run([LAUNCH / "local.sh", "c.py", "gs://b/r"], check=False)
    assert (done.returncode, len(said())) == (0, 10)


def test_local_hands_a_signal_on_waits_for_the_save_and_leaves_nobody_behind(stand_in, tmp_path):
    body = f"""
sleep 1000 & child=$!
trap 'kill $child; sleep 0.5; echo saved >>{tmp_path}/saved; exit 75' TERM
sleep 1000 &
echo $$ $! >>{tmp_path}/pids
wait $child; wait $child"""
    stand_in("jepa-speech", body)
    for number in SIGNALS:
        (tmp_path / "pids").unlink(missing_ok=True)
        (tmp_path / "saved").unlink(missing_ok=True)
        before = {n: signal.signal(n, signal.SIG_DFL) for n in SIGNALS}  # nohup, say, ignores some of them
        try:
            script = subprocess.Popen([LAUNCH / "local.sh", "c.py", "r"], env=os.environ | {"PROCESSES": "2"})
        finally:
            for n, handler in before.items():
                signal.signal(n, handler)
        wait_for(lambda: (tmp_path / "pids").exists() and len((tmp_path / "pids").read_text().split()) == 4)
        script.send_signal(number)
        assert script.wait(timeout=60) == 75
        assert (tmp_path / "saved").read_text() == "saved\n" * 2
        wait_for(lambda: not [p for p in (tmp_path / "pids").read_text().split() if alive(p)])


def alive(pid: str) -> bool:
    path = Path("/proc", pid, "stat")
    return path.exists() and path.read_text().rpartition(")")[2].split()[0] != "Z"


def test_local_refuses_a_number_that_is_none(stand_in):
    stand_in("jepa-speech")
    done = subprocess.run([LAUNCH / "local.sh", "c.py", "r", "two"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "two processes: a whole number" in done.stderr


def test_two_processes_learn_what_one_does(tmp_path):
    """The real thing: launch/local.sh with two processes of two devices each, against this one with its four."""
    assert jax.device_count() == 4
    store = babble_store(tmp_path, [0.9, 0.9, 1.3, 0.9])
    config = str(ROOT / "configs" / "tiny.py") + ":data2vec"
    keys = SMALL | {"data.store": str(store.path)}
    overrides = [f"--config.{key}={value}" for key, value in keys.items()]
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(["train", "--config", config, "--workdir", str(one), *overrides]) == 0
    flags = os.environ["XLA_FLAGS"].replace("device_count=4", "device_count=2")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    arguments = [LAUNCH / "local.sh", config, two, "2", *overrides]
    subprocess.run(arguments, env=os.environ | {"XLA_FLAGS": flags, "PATH": path}, check=True, timeout=900)

    events = [json.loads(line)["event"] for line in (two / "events.jsonl").read_text().splitlines()]
    assert events.count("done") == 1 and (two / "checkpoints" / "4").is_dir()
    assert len(list((two / "tensorboard").iterdir())) == 1
    rows = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (one, two)]
    assert [row["step"] for row in rows[1]] == [1, 2, 3, 4]
    for alone, shared in zip(*rows, strict=True):
        for name in ("loss", "grad_norm"):
            assert shared[name] == pytest.approx(alone[name], rel=1e-5)
