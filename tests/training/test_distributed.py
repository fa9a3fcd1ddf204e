"""Several processes as one: who they are, what happens when one does not come or fails; and nothing for one process."""

import os
import signal
import socket
import subprocess
import sys
import time

import jax
import psutil
import pytest
from jax._src.clusters import cloud_tpu_cluster

from jepa_speech.errors import Interrupted, UsageError, UserError
from jepa_speech.training import distributed
from jepa_speech.training.distributed import Peers, connected, detected, settings

EXPLICIT = {"JEPA_SPEECH_COORDINATOR": "10.0.0.1:8476", "JEPA_SPEECH_PROCESSES": "4", "JEPA_SPEECH_PROCESS": "3"}
SLURM = {
    "SLURM_JOB_ID": "4097",
    "SLURM_STEP_NODELIST": "node[07-09]",
    "SLURM_NTASKS": "6",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
}


@pytest.fixture
def environment(monkeypatch):
    """Sets these variables, with no others of a cluster."""
    for name in list(os.environ):
        if name.startswith(("SLURM_", "OMPI_", "JEPA_SPEECH_", "TPU_WORKER", "KUBERNETES_", "JAX_COORD")):
            monkeypatch.delenv(name)

    def change(variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return os.environ

    return change


def listening() -> set[int]:
    return {c.laddr.port for c in psutil.Process().net_connections() if c.status == psutil.CONN_LISTEN}


@pytest.mark.parametrize(
    "variables",
    [{}, {"JEPA_SPEECH_PROCESSES": "1"}, SLURM | {"SLURM_NTASKS": "1"}, SLURM | {"JEPA_SPEECH_PROCESSES": "1"}],
    ids=["laptop", "explicit", "one task", "alone in a step"],
)
def test_one_process_opens_no_port_and_starts_nothing(environment, variables):
    before = listening()
    with connected(environment(variables)):
        assert not jax.distributed.is_initialized() and listening() == before


def test_a_bare_host_says_who_it_is():
    assert settings({}) is None
    assert settings(EXPLICIT) == Peers("10.0.0.1:8476", 4, 3)
    assert settings(EXPLICIT | {"JEPA_SPEECH_COORDINATOR": "[fe80::1]:80"}).coordinator == "[fe80::1]:80"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"JEPA_SPEECH_COORDINATOR": ""}, "JEPA_SPEECH_COORDINATOR is not set, but JEPA_SPEECH_PROCESSES = 4"),
        ({"JEPA_SPEECH_PROCESSES": ""}, "JEPA_SPEECH_PROCESSES is not set, but another of"),
        ({"JEPA_SPEECH_PROCESS": ""}, "JEPA_SPEECH_PROCESS is not set, but"),
        ({"JEPA_SPEECH_PROCESS": "4"}, "JEPA_SPEECH_PROCESS = 4 with JEPA_SPEECH_PROCESSES = 4: they are numbered 0"),
        ({"JEPA_SPEECH_PROCESS": "-1"}, "JEPA_SPEECH_PROCESS = '-1': a whole number needed"),
        ({"JEPA_SPEECH_PROCESSES": "0"}, "JEPA_SPEECH_PROCESS = 3 with JEPA_SPEECH_PROCESSES = 0"),
        ({"JEPA_SPEECH_COORDINATOR": "10.0.0.1"}, "'10.0.0.1': write HOST:PORT, such as"),
        ({"JEPA_SPEECH_COORDINATOR": "host:70000"}, "'host:70000': write HOST:PORT, such as"),
    ],
)
def test_wrong_or_partial_settings_are_one_line(change, line):
    with pytest.raises(UsageError) as error:
        settings(EXPLICIT | change)
    assert line in str(error.value) and "\n" not in str(error.value)


def test_slurm_is_detected(environment):
    peers = detected(environment(SLURM))
    assert peers == Peers("node07:61441", 6, 5, [1])  # the port: 61440 and the job's number modulo 4096


def test_a_tpu_slice_is_detected(environment, monkeypatch):
    monkeypatch.setattr(cloud_tpu_cluster, "running_in_cloud_tpu_vm", True)
    variables = {"TPU_WORKER_HOSTNAMES": "localhost,b", "TPU_WORKER_ID": "1", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    for name in ("MEGASCALE_COORDINATOR_ADDRESS", "MEGASCALE_NUM_SLICES", "MEGASCALE_SLICE_ID"):
        monkeypatch.setenv(name, "")
    assert detected(environment(variables)) == Peers("localhost:8482", 2, 1)


def test_a_pod_of_no_job_is_alone_and_one_of_a_job_needs_the_package(environment, monkeypatch):
    monkeypatch.setitem(sys.modules, "kubernetes", None)  # not installed
    assert detected(environment({"KUBERNETES_SERVICE_HOST": "10.0.0.1"})) is None
    with pytest.raises(UserError, match=r"pip install jax\[k8s\].*set JEPA_SPEECH_COORDINATOR") as error:
        detected(environment({"JOB_COMPLETION_INDEX": "0"}))
    assert "\n" not in str(error.value)


def test_the_awaited_are_named():
    assert Peers("", 2, 0).awaited == "process 1 of 2"
    assert Peers("", 4, 1).awaited == "processes 0, 2, 3 of 4"
    assert Peers("", 9, 0).awaited == "processes 1, 2, 3, ... 8 of 9"


def test_a_taken_port_asks_for_another_start(environment):
    with socket.create_server(("127.0.0.1", 0)) as other:
        coordinator = f"127.0.0.1:{other.getsockname()[1]}"
        variables = EXPLICIT | {"JEPA_SPEECH_COORDINATOR": coordinator, "JEPA_SPEECH_PROCESS": "0"}
        with pytest.raises(Interrupted, match="process 0 cannot listen on port"), connected(environment(variables)):
            pass


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def start(port: int, index: int, code: str, patience: float, heartbeat: int = 30) -> subprocess.Popen:
    """A process of two, which may be less patient than real ones."""
    program = (
        f"from jepa_speech.training import distributed as d; d.PATIENCE, d.HEARTBEAT = {patience}, {heartbeat}\n"
        f"from jepa_speech.errors import UserError; import sys, time, jax\n"
        f"def run():\n  with d.connected():\n    {code}\n"
        f"try:\n  run()\nexcept UserError as error:\n  print(error); sys.exit(1)\n"
    )
    variables = {
        "JEPA_SPEECH_COORDINATOR": f"127.0.0.1:{port}",
        "JEPA_SPEECH_PROCESSES": "2",
        "JEPA_SPEECH_PROCESS": str(index),
    }
    environment = os.environ | variables
    return subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("index", "awaited"), [(0, "for process 1 of 2;"), (1, "for process 0 of 2, which does not answer")]
)
def test_a_peer_that_does_not_come_is_named(index, awaited):
    assert distributed.PATIENCE < 60
    process = start(free_port(), index, "pass", patience=1)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 75 and awaited in said and f"process {index} waited" in said


def test_one_that_fails_leaves_with_its_own_code_though_its_peer_waits():
    """jax would keep it until the time-out of its shutdown, and then abort both with 134."""
    port = free_port()
    with start(port, 0, "assert jax.process_count() == 2; time.sleep(100)", 50) as waiting:
        failing = start(port, 1, "raise UserError('broken')", 50)
        began = time.monotonic()
        failing.communicate(timeout=120)
        waiting.kill()
    assert failing.returncode == 1, time.monotonic() - began
    assert distributed.HEARTBEAT + 20 <= 60


def test_the_survivor_of_a_lost_peer_asks_for_another_start():
    """Its collective fails at once, which by itself would be a failure of its own; then jax notices the loss."""
    port, many = free_port(), "from jax.experimental.multihost_utils import sync_global_devices as s; s('a'); "
    with start(port, 1, many + "print('met', file=sys.stderr, flush=True); time.sleep(100)", 50, 5) as lost:
        survivor = start(port, 0, many + "s('b')", 50, 5)
        for line in lost.stderr:
            if line == "met\n":
                break
        lost.kill()
        _, said = survivor.communicate(timeout=120)
    assert survivor.returncode == -signal.SIGABRT and "1\nThe tasks have crashed" in said, said
