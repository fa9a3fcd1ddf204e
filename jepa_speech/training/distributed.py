"""Connect several processes by jax.distributed, before jax initialises a backend. One process needs nothing.

These variables set the number of processes and the index of this one:

    JEPA_SPEECH_COORDINATOR=HOST:PORT   where process 0 listens, in a private network: the port has no authentication
    JEPA_SPEECH_PROCESSES=N             1: a single process, even on a cluster
    JEPA_SPEECH_PROCESS=I               0 ... N-1

If none of them is set, jax detects them from SLURM's steps, TPU pods, indexed Jobs of Kubernetes, mpirun.
"""

import atexit
import os
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

import jax

# 2026-11: private, and there is no public way to detect a cluster. JEPA_SPEECH_COORDINATOR does without it.
from jax._src.clusters import ClusterEnv
from jax.experimental import multihost_utils  # 2026-11: experimental, no removal announced, no replacement

from jepa_speech.errors import Interrupted, UsageError, UserError

COORDINATOR, PROCESSES, PROCESS = (f"JEPA_SPEECH_{name}" for name in ("COORDINATOR", "PROCESSES", "PROCESS"))
# Seconds. A lost peer is noticed within a minute, at the start as well as later; jax's own defaults are 100 to 300.
PATIENCE, HEARTBEAT, SHUTDOWN = 50, 30, 60


@dataclass(frozen=True)
class Peers:
    """The processes of a run, and the index of this one."""

    coordinator: str  # HOST:PORT of process 0
    count: int
    index: int
    local_devices: Sequence[int] | None = None  # None: all that this machine has

    @property
    def awaited(self) -> str:
        """Returns the names of the other processes for a message."""
        others = [i for i in range(self.count) if i != self.index]
        named = ", ".join(str(i) for i in others[:3]) + (f", ... {others[-1]}" if len(others) > 3 else "")
        return f"process{'es' if len(others) > 1 else ''} {named} of {self.count}"


@contextmanager
def connected(environment: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Connects all processes inside the block. A single process opens no port. Connected processes stay connected, so a
    second block in the same program changes nothing.

    A process that fails inside ends with its own exit code. Otherwise it would wait for peers that wait for it in a
    collective, until jax aborts all of them with code 134, which means "start again". A process still ends with 134 if
    a lost peer caused its failure.

    Raises UsageError for wrong or partial settings, UserError if jax cannot detect the processes of a cluster, and
    Interrupted if another program uses the port of process 0. If a peer does not connect within 50 s, the process
    prints which one and exits with 75.
    """
    peers = settings(environment) or detected(environment)
    if peers is None or peers.count == 1 or jax.distributed.is_initialized():
        yield
        return
    join(peers)
    try:
        yield
    except Interrupted:
        raise  # all have saved, and end together
    except (UserError, KeyboardInterrupt) as error:
        code = error.exit_code if isinstance(error, UserError) else 130
        atexit.register(leave, code, 5.0 if peers.index == 0 else 0.0)  # runs before jax's own, which waits
        raise
    except BaseException:
        # The error may be that of a collective whose peer is lost. Then jax ends this process with 134 while it waits.
        atexit.register(leave, 1, HEARTBEAT + 10.0)
        raise


def together(what: str) -> None:
    """Returns once all processes have called it with the same words."""
    if jax.process_count() > 1:
        with jax.transfer_guard("allow"):
            multihost_utils.sync_global_devices(what)


def settings(environment: Mapping[str, str]) -> Peers | None:
    """Returns what the three variables set, None if none is set. Raises UsageError if they are wrong or partial."""
    given = {name: environment[name] for name in (COORDINATOR, PROCESSES, PROCESS) if environment.get(name)}
    if not given:
        return None
    count = whole_number(PROCESSES, given.get(PROCESSES))
    if count == 1:
        return Peers("", 1, 0)
    for name in (COORDINATOR, PROCESS):
        if name not in given:
            raise UsageError(f"{name} is not set, but {PROCESSES} = {count}: set {COORDINATOR}, {PROCESSES}, {PROCESS}")
    index = whole_number(PROCESS, given[PROCESS])
    if count < 1 or index >= count:
        raise UsageError(f"{PROCESS} = {index} with {PROCESSES} = {count}: they are numbered 0 to {PROCESSES} - 1")
    host, _, port = given[COORDINATOR].rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(f"{COORDINATOR} = {given[COORDINATOR]!r}: write HOST:PORT, such as 10.0.0.1:8476")
    return Peers(given[COORDINATOR], count, index)


def whole_number(name: str, text: str | None) -> int:
    if text is None:
        raise UsageError(f"{name} is not set, but another of {COORDINATOR}, {PROCESSES}, {PROCESS} is: set all three")
    if not text.isascii() or not text.isdigit():
        raise UsageError(f"{name} = {text!r}: a whole number needed")
    return int(text)


def detected(environment: Mapping[str, str]) -> Peers | None:
    """Returns the processes that jax detects on a cluster, None if it detects none."""
    if "KUBERNETES_SERVICE_HOST" in environment and not environment.keys() & {
        "JOB_COMPLETION_INDEX",  # of an indexed Job or a JobSet
        "TPU_WORKER_HOSTNAMES",  # of a TPU slice
    }:
        return None  # a pod without a Job, which jax would look for
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # "the package kubernetes is not installed", say
            coordinator, count, index, devices = ClusterEnv.auto_detect_unset_distributed_params(
                None, None, None, None, None, PATIENCE
            )
    except Exception as error:  # whatever the cluster's client, which jax asks, may raise
        reason = " ".join(str(error).split())
        raise UserError(
            f"this looks like a job of several processes, but jax cannot detect them "
            f"({type(error).__name__}: {reason}); set {COORDINATOR}, {PROCESSES} and {PROCESS}, or {PROCESSES}=1"
        ) from error
    if coordinator is None or count is None or index is None:  # all of them are None, or none
        return None
    return Peers(coordinator, count, index, devices)


def join(peers: Peers) -> None:
    """Starts jax.distributed, and returns once all processes are connected."""
    host, _, port = peers.coordinator.rpartition(":")
    # If all processes are on this machine, the port is not opened to others.
    bind = peers.coordinator if host in ("localhost", "127.0.0.1", "[::1]") else None
    if peers.index == 0:
        refuse_taken_port(int(port))
    # jax would abort the process with 134 and a stack trace that does not name the missing one.
    patience = threading.Timer(PATIENCE, give_up, [peers])
    patience.daemon = True
    patience.start()
    jax.distributed.initialize(
        peers.coordinator,
        peers.count,
        peers.index,
        peers.local_devices,
        cluster_detection_method="deactivate",
        initialization_timeout=2 * PATIENCE,
        heartbeat_timeout_seconds=HEARTBEAT,
        shutdown_timeout_seconds=SHUTDOWN,
        coordinator_bind_address=bind,
    )
    patience.cancel()


def refuse_taken_port(port: int) -> None:
    """Raises Interrupted if another program listens on the port, because jax would crash then."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just closed is free
        try:
            probe.bind(("", port))
        except OSError as error:
            raise Interrupted(
                f"process 0 cannot listen on port {port} ({error.strerror}): end the program that uses it, or choose "
                "another port"
            ) from error


def give_up(peers: Peers) -> None:
    """Prints which process did not connect, and ends this one with 75."""
    awaited = peers.awaited
    if peers.index > 0:
        host, _, port = peers.coordinator.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
            awaited += "; process 0 answers, so another one is missing"
        except OSError as error:
            awaited = f"process 0 of {peers.count}, which does not answer ({error.strerror or error})"
    print(
        f"jepa-speech: process {peers.index} waited {PATIENCE} s at {peers.coordinator} for {awaited}; "
        "each process that is running prints such a line: start the missing one, and this one again",
        file=sys.stderr,
        flush=True,
    )
    os._exit(Interrupted.exit_code)


def leave(code: int, after: float) -> None:
    """Ends this process `after` some seconds, without notice to the others. They abort at once if it is process 0."""
    time.sleep(after)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
