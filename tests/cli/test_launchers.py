"""tpu_pod.sh and local.sh of launch/, run: what starts again, what ends all, and two processes that end as one does.

The programs of clusters, and jepa-speech where it is not what is tested, are stand-ins on PATH.
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
WHAT = ["--config", "configs/smoke.py", "--workdir", "runs/one"]


# launch/tpu_pod.sh. As the real gcloud, this one runs an ssh command on all workers at once (here in the folders
# $HOMES/0, ...), repeats it by itself where the connection broke (255), waits for all, and returns the code of the
# lowest-numbered worker that failed. The first connection that finds $BREAK breaks, and its command runs on.
GCLOUD = """
worker() { # NUMBER COMMAND
    export HOME=$HOMES/$1 WORKER=$1
    cd "$HOME" || exit
    for attempt in 1 2 3 4 5 6 7 8 9 10; do
        if [[ $2 = *" run "* ]] && rmdir "$BREAK" 2>/dev/null; then
            setsid bash -c "$2" &>/dev/null &
            until [ -e "$HOMES/up" ]; do sleep 0.1; done
            continue
        fi
        bash -c "$2"
        code=$?
        [ $code -eq 255 ] || break
    done
    exit $code
}
case $4 in
    describe) cat "$STATE" 2>/dev/null || exit 1 ;;
    create) echo READY >"$STATE" ;;
    delete) rm "$STATE" ;;
    scp) for home in "$HOMES"/[0-9]; do cp "$5" "$home/jepa-speech.tar.gz"; done ;;
    ssh)
        for a in "$@"; do case $a in --command=*) command=${a#--command=} ;; esac; done
        for home in "$HOMES"/[0-9]; do worker "${home##*/}" "$command" & pids+=($!); done
        for pid in "${pids[@]}"; do wait $pid || { code=$?; ended=${ended:-$code}; }; done
        exit ${ended:-0} ;;
esac
"""


class Slice:
    """A TPU slice with a number of workers, and the environment of tpu_pod.sh."""

    def __init__(self, folder: Path, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.homes, self.state, self.broken = folder / "homes", folder / "state", folder / "break"
        for worker in range(workers):
            (self.homes / str(worker)).mkdir(parents=True)
        settings = {"HOMES": self.homes, "STATE": self.state, "BREAK": self.broken, "RETRY_SECONDS": 0}
        for name, value in (settings | {"PROCESSES": 1, "TMPDIR": folder, "NAME": "p", "ZONE": "z"}).items():
            monkeypatch.setenv(name, str(value))

    def run(self) -> tuple[int, str]:
        """`tpu_pod.sh run` on a slice that is there, with jepa-speech installed: its exit code and its output."""
        self.state.write_text("READY\n")
        for home in self.homes.iterdir():
            (home / "jepa-speech").symlink_to(ROOT)
        command = [LAUNCH / "tpu_pod.sh", "run", "c.py", "r"]
        script = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            said = script.communicate(timeout=120)[0]
        finally:
            (self.homes / "end").touch()  # for a jepa-speech that would run on
        assert self.state.read_text() == "READY\n"
        return script.returncode, said


def test_a_tpu_slice_is_made_again_after_a_preemption(stand_in, tmp_path, monkeypatch):
    """The run is preempted once, with the whole slice, then ends; then the slice is deleted."""
    monkeypatch.chdir(ROOT)
    pod = Slice(tmp_path, 1, monkeypatch)
    home = pod.homes / "0"
    said = stand_in("gcloud", GCLOUD)
    stand_in("python3")
    stand_in("jepa-speech", '[ -f once ] && exit 0; touch once; echo PREEMPTED >"$STATE"; exit 3')
    assert main(["launch", "tpu", *WHAT, "--name", "pod-of-a-test", "--zone", "z", NASTY]) == 0
    calls = [call[4] if call[0] == "gcloud" else call[0] for call in said()]
    steps = [call for call in calls if call not in ("describe", "python3")]
    once = ["create", "ssh", "scp", "ssh", "ssh", "jepa-speech"]
    assert steps == [*once, "ssh", "delete", *once, "delete"]  # the failure ends what may run on other workers
    trained = [call for call in said() if call[0] == "jepa-speech"]
    assert trained == [["jepa-speech", "train", "--config", "jepa-speech/configs/smoke.py", *WHAT[2:], NASTY]] * 2
    assert not pod.state.exists() and not (home / "x").exists()
    assert (home / "jepa-speech" / "launch" / "local.sh").exists()


# A process that runs until it is to save, which takes a moment.
RUNS = """
trap 'sleep 0.5; rm -rf "$HOMES/busy-$WORKER"; exit 75' TERM
touch "$HOMES/up"
until [ -e "$HOMES/end" ]; do sleep 0.1; done"""


def test_a_worker_that_fails_ends_the_others_and_its_code_is_that_of_all(stand_in, tmp_path, monkeypatch):
    """gcloud alone would wait for worker 0, and return its code."""
    pod = Slice(tmp_path, 2, monkeypatch)
    said = stand_in("gcloud", GCLOUD)
    stand_in("jepa-speech", 'if [ $WORKER = 1 ]; then until [ -e "$HOMES/up" ]; do sleep 0.1; done; exit 3; fi' + RUNS)
    assert pod.run()[0] == 3
    assert [call[0] for call in said()].count("jepa-speech") == 2


def test_a_worker_whose_mount_fails_ends_the_others(stand_in, tmp_path, monkeypatch):
    monkeypatch.setenv("MOUNT", '[ $WORKER = 0 ] || { until [ -e "$HOMES/up" ]; do sleep 0.1; done; exit 5; }')
    pod = Slice(tmp_path, 2, monkeypatch)
    stand_in("gcloud", GCLOUD)
    stand_in("jepa-speech", RUNS)
    assert pod.run()[0] == 5


def test_a_command_that_gcloud_repeats_replaces_the_first(stand_in, tmp_path, monkeypatch):
    """Two starts on one worker never train at the same time: the first saves and ends before the second starts."""
    pod = Slice(tmp_path, 1, monkeypatch)
    pod.broken.mkdir()
    said = stand_in("gcloud", GCLOUD)
    begins = 'mkdir "$HOMES/busy-$WORKER" || exit 9; [ ! -e "$HOMES/up" ] || exit 0'
    stand_in("jepa-speech", begins + RUNS)
    code, shown = pod.run()
    assert code == 0 and "an earlier start still runs; it saves and ends first" in shown
    assert [call[0] for call in said()].count("jepa-speech") == 2


@pytest.mark.parametrize("saves", [True, False])
def test_stopping_ends_a_start_whose_connection_broke(saves, stand_in, tmp_path, monkeypatch):
    """One that does not save in its 120 s, here half a second, is killed."""
    pod = Slice(tmp_path, 1, monkeypatch)
    stand_in("gcloud", GCLOUD)
    stand_in(
        "jepa-speech", 'mkdir "$HOMES/busy-$WORKER"' + RUNS if saves else "trap '' TERM" + RUNS.replace("TERM", "HUP")
    )
    if not saves:
        stand_in("timeout", f'[ "$1" = 120 ] && exec {shutil.which("timeout")} 0.5 "${{@:2}}"')
    command = [LAUNCH / "tpu_worker.sh", "run", "c.py", "r"]
    script = subprocess.Popen(command, cwd=pod.homes / "0", env=os.environ | {"WORKER": "0"})
    try:
        wait_for((pod.homes / "up").exists)
        (pod.homes / "0" / "jepa-speech").symlink_to(ROOT)
        subprocess.run([LAUNCH / "tpu_pod.sh", "stop"], check=True)
        assert not (pod.homes / "busy-0").exists() and script.wait(60) == 75
    finally:
        (pod.homes / "end").touch()


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


# launch/local.sh, with a jepa-speech that returns a code of the list in turn; the last of several processes does.
# A turn that saves leaves a checkpoint.
CODES = """
n=$(cat "$TURN" 2>/dev/null || echo 0); echo $((n + 1)) >"$TURN"; set -- $CODES; shift $n
case $1 in
    saves) mkdir -p r/checkpoints/$n; exit 75 ;;
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
