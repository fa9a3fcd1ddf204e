"""launch/tpu_pod.sh with the real gcloud, against a TPU service on this machine. ssh and jepa-speech are stand-ins.

`make test-gcloud` runs these tests, and says what to install.
"""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from support.tpu_service import TpuService

from jepa_speech.cli import main

pytestmark = [
    pytest.mark.gcloud,
    pytest.mark.skipif(not shutil.which("gcloud"), reason="gcloud is not installed: see `make test-gcloud`"),
]
ROOT = Path(__file__).parents[2]
POD = ROOT / "launch" / "tpu_pod.sh"
NASTY = "--config.data.store=/a b/$(touch x)';\"*"
WHAT = ["--config", "configs/smoke.py", "--workdir", "runs/one"]


@pytest.fixture
def service(stand_in, tmp_path, monkeypatch):
    """A TPU service whose slices have two workers, and the environment of tpu_pod.sh for the slice `p`."""
    with TpuService(tmp_path / "service", workers=2) as service:
        settings = {"PROCESSES": 1, "TMPDIR": tmp_path, "NAME": "p", "ZONE": "z", "RETRY_SECONDS": 0}
        for name, value in (service.environment | settings).items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.setenv("PATH", f"{service.folder}/programs:{os.environ['PATH']}")
        yield service
        (service.homes / "end").touch()  # for a jepa-speech that would run on


def run(service, step: str = "run") -> tuple[int, str]:
    """`tpu_pod.sh STEP` on a slice that exists and has jepa-speech: its exit code and its output."""
    service.make("nodes", "p", {})
    for home in service.homes.iterdir():
        if home.name.isdigit():
            (home / "jepa-speech").symlink_to(ROOT)
    command = [POD, step, "c.py", "r"]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=400, check=False
    )
    assert service.exists("nodes", "p") == (done.returncode != 0 or step == "run")
    return done.returncode, done.stdout


def test_a_slice_is_created_again_after_a_preemption(service, stand_in, monkeypatch):
    """The run is preempted once, with the whole slice, then ends; then the slice is deleted."""
    monkeypatch.chdir(ROOT)
    stand_in("python3")
    preempted = '[ -f once ] && exit 0; touch once; echo PREEMPTED >"$SERVICE/nodes/p/state"; exit 3'
    said = stand_in("jepa-speech", preempted)
    assert main(["launch", "tpu", *WHAT, "--name", "p", "--zone", "z", "--type", "v6e-16", "--spot", NASTY]) == 0
    trained = [call for call in said() if call[0] == "jepa-speech"]
    assert trained == [["jepa-speech", "train", "--config", "jepa-speech/configs/smoke.py", *WHAT[2:], NASTY]] * 4
    for node in service.created["nodes"]:
        assert (node["acceleratorType"], node["schedulingConfig"]["spot"]) == ("v6e-16", True)
        assert node["networkConfig"]["enableExternalIps"] is False
    assert len(service.created["nodes"]) == 2 and not service.exists("nodes", "p")
    for home in (service.homes / "0", service.homes / "1"):
        assert (home / "jepa-speech" / "launch" / "local.sh").exists() and not (home / "x").exists()


@pytest.mark.slow
def test_a_slice_that_is_being_created_is_waited_for(service, stand_in):
    service.states["nodes"] = ["CREATING", "READY"]
    stand_in("python3")
    said = stand_in("jepa-speech")
    code, shown = run(service, "all")
    assert code == 0 and "p is CREATING" in shown and not service.created["nodes"]
    assert [call[0] for call in said()].count("jepa-speech") == 2


@pytest.mark.slow
def test_a_slice_is_created_again_after_its_workers_went_silent(service, stand_in):
    """gcloud tries ten times to connect to each."""
    stand_in("python3")
    (service.homes / "silent").touch()
    kill = 'read -r _ _ _ worker _ <"/proc/$(cat train.pid)/stat"; kill -9 $worker $(cat train.pid)'
    preempted = f'echo PREEMPTED >"$SERVICE/nodes/p/state"; {kill}'
    said = stand_in("jepa-speech", f"[ -f once ] && exit 0; touch once; {preempted}")
    code, shown = run(service, "all")
    assert code == 0 and len(service.created["nodes"]) == 1
    assert shown.count("SSH: Attempting to connect to worker 0") > 10
    assert [call[0] for call in said()].count("jepa-speech") == 4


STOPPED = "kill $PPID; exit 75"  # as if the machine shut down: local.sh is told to stop


@pytest.mark.slow
@pytest.mark.parametrize("preempted", [True, False])
def test_a_stopped_run_starts_again_if_its_slice_is_preempted_minutes_later(preempted, service, stand_in):
    stand_in("python3")
    service.states["nodes"] = ["READY"]
    if preempted:
        states = 'echo "READY READY READY READY READY PREEMPTED" >"$SERVICE/nodes/p/state"'
        stand_in("jepa-speech", f"[ -f once ] && exit 0; touch once; [ $WORKER = 1 ] || {states}; {STOPPED}")
    else:
        stand_in("jepa-speech", STOPPED)
    code, shown = run(service, "all")
    assert (code, len(service.created["nodes"])) == ((0, 1) if preempted else (75, 0))
    assert "ended with 75, as in a preemption, but p is READY" in shown


@pytest.mark.slow
def test_a_slice_is_waited_for_in_the_queue_and_again_after_a_preemption(service, stand_in, capfd, monkeypatch):
    monkeypatch.chdir(ROOT)
    stand_in("python3")
    preempted = (
        'cd "$SERVICE"; echo PREEMPTED >nodes/p/state; echo SUSPENDING SUSPENDED >queuedResources/p/state; exit 3'
    )
    said = stand_in("jepa-speech", f"[ -f once ] && exit 0; touch once; {preempted}")
    options = ["--name", "p", "--zone", "z", "--type", "v6e-16", "--spot", "--queued"]
    assert main(["launch", "tpu", *WHAT, *options]) == 0
    waited = ["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]
    shown = [line.partition("queued resource p: ")[2] for line in capfd.readouterr().err.splitlines()]
    shown = [line.rpartition(" (")[0] for line in shown if line]
    assert [state for state in shown if state != "SUSPENDING"] == [*waited, "SUSPENDED", *waited]
    assert [call[0] for call in said()].count("jepa-speech") == 4
    first, second = service.created["queuedResources"]
    (spec,) = first["tpu"]["nodeSpec"]
    assert first == second and first["spot"] == {} and not service.created["nodes"]
    assert (spec["nodeId"], spec["node"]["acceleratorType"]) == ("p", "v6e-16")
    assert not service.exists("queuedResources", "p") and not service.exists("nodes", "p")


def test_a_request_that_the_queue_refuses_ends_with_one_line(service, monkeypatch):
    monkeypatch.setenv("QUEUED", "1")
    service.states["queuedResources"] = ["FAILED"]
    done = subprocess.run([POD, "all", "c.py", "r"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and not service.created["nodes"]
    assert done.stderr.splitlines()[-1].startswith(
        "tpu_pod.sh: queued resource p failed: no capacity; before you ask again,"
    )
    subprocess.run([POD, "delete"], check=True)
    assert not service.exists("queuedResources", "p")


# A process that runs until it is to save, which takes a moment.
RUNS = """
trap 'sleep 0.5; rm -rf "$HOMES/busy-$WORKER"; exit 75' TERM
touch "$HOMES/up"
until [ -e "$HOMES/end" ]; do sleep 0.1; done"""


def test_a_worker_that_fails_ends_the_others_and_its_code_is_that_of_all(service, stand_in):
    """gcloud alone would wait for worker 0, and return its code."""
    said = stand_in(
        "jepa-speech", 'if [ $WORKER = 1 ]; then until [ -e "$HOMES/up" ]; do sleep 0.1; done; exit 3; fi' + RUNS
    )
    assert run(service)[0] == 3
    assert [call[0] for call in said()].count("jepa-speech") == 2


def test_a_worker_whose_mount_fails_ends_the_others(service, stand_in, monkeypatch):
    monkeypatch.setenv("MOUNT", '[ $WORKER = 0 ] || { until [ -e "$HOMES/up" ]; do sleep 0.1; done; exit 5; }')
    stand_in("jepa-speech", RUNS)
    assert run(service)[0] == 5


def test_a_command_that_gcloud_repeats_replaces_the_first(service, stand_in):
    """Two starts on one worker never train at the same time: the first saves and ends before the second starts."""
    (service.homes / "0" / "break").mkdir()
    begins = '[ $WORKER = 0 ] || exit 0; mkdir "$HOMES/busy-$WORKER" || exit 9; [ ! -e "$HOMES/up" ] || exit 0'
    said = stand_in("jepa-speech", begins + RUNS)
    code, shown = run(service)
    assert code == 0 and "an earlier start still runs; it saves and ends first" in shown
    assert [call[0] for call in said()].count("jepa-speech") == 3


@pytest.mark.parametrize("saves", [True, False])
def test_stopping_ends_a_start_whose_connection_broke(saves, service, stand_in):
    """One that does not save in its 120 s, here half a second, is killed."""
    service.make("nodes", "p", {})
    stand_in(
        "jepa-speech", 'mkdir "$HOMES/busy-$WORKER"' + RUNS if saves else "trap '' TERM" + RUNS.replace("TERM", "HUP")
    )
    if not saves:
        stand_in("timeout", f'[ "$1" = 120 ] && exec {shutil.which("timeout")} 0.5 "${{@:2}}"')
    home = service.homes / "0"
    command = [ROOT / "launch" / "tpu_worker.sh", "run", "c.py", "r"]
    script = subprocess.Popen(command, cwd=home, env=os.environ | {"WORKER": "0"})
    end = time.monotonic() + 60
    while not (service.homes / "up").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    (home / "jepa-speech").symlink_to(ROOT)
    subprocess.run([POD, "stop"], check=True)
    assert not (service.homes / "busy-0").exists() and script.wait(60) == 75


def test_a_slice_of_unknown_state_is_not_taken_for_deleted(service):
    service.make("nodes", "p", {})
    other = os.environ | {"PROJECT": "other"}
    done = subprocess.run([POD, "delete"], env=other, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "PERMISSION_DENIED" in done.stderr
    subprocess.run([POD, "delete"], check=True)
    assert not service.exists("nodes", "p")
    subprocess.run([POD, "delete"], check=True)  # there is none any more
