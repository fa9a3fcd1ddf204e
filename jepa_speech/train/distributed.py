"""Several processes as one: jax.distributed, started before any backend wakes; nothing at all for one process.

Which process this is, of how many, comes from

    JEPA_SPEECH_COORDINATOR=HOST:PORT   where process 0 listens; a port for a private network: nobody authenticates
    JEPA_SPEECH_PROCESSES=N             1: a process alone, whatever the cluster says
    JEPA_SPEECH_PROCESS=I               0 ... N-1

or, where none of them is set, from what jax detects: SLURM's steps, TPU pods, indexed Jobs of Kubernetes, mpirun.
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

# 2026-11: private. jax.distributed.initialize() asks it, and nothing public does; JEPA_SPEECH_COORDINATOR replaces it.
from jax._src.clusters import ClusterEnv

from jepa_speech.errors import Interrupted, UsageError, UserError

COORDINATOR, PROCESSES, PROCESS = (f"JEPA_SPEECH_{name}" for name in ("COORDINATOR", "PROCESSES", "PROCESS"))
# Seconds. A lost peer is noticed within a minute, at the start as well as later; jax's own defaults are 100 to 300.
PATIENCE, HEARTBEAT, SHUTDOWN = 50, 30, 60


@dataclass(frozen=True)
class Peers:
    """Where this process stands among all."""

    coordinator: str  # HOST:PORT of process 0
    count: int
    index: int
    local_devices: Sequence[int] | None = None  # None: all that this machine has

    @property
    def awaited(self) -> str:
        """The others, for a message."""
        others = [i for i in range(self.count) if i != self.index]
        named = ", ".join(str(i) for i in others[:3]) + (f", ... {others[-1]}" if len(others) > 3 else "")
        return f"process{'es' if len(others) > 1 else ''} {named} of {self.count}"


@contextmanager
def connected(environment: Mapping[str, str] = os.environ) -> Iterator[None]:
    """With several processes: all of them are joined inside, and stay so: a second time, in the same program, nothing
    happens. With one process, nothing happens either, and no port is opened.

    A process that fails inside leaves with its own exit code. Going the usual way, it would wait for peers that wait
    for it in a collective, until jax aborts them all with code 134, which asks for another start. That is what becomes
    of it only where the failure is a lost peer's doing.

    Raises UsageError for wrong or partial settings, UserError where a cluster does not tell what jax asks it,
    Interrupted where process 0 finds its port taken. Where a peer does not come within 50 s, the process says whom
    it awaited, and exits with 75.
    """
    peers = settings(environment) or detected(environment)
    if peers is None or peers.count == 1 or jax.distributed.is_initialized():
        yield
        return
    join(peers)
    try:
        yield
    except Interrupted:
        raise  # all are saved and leave together
    except (UserError, KeyboardInterrupt) as error:
        code = error.exit_code if isinstance(error, UserError) else 130
        atexit.register(leave, code, 5.0 if peers.index == 0 else 0.0)  # runs before jax's own, which waits
        raise
    except BaseException:
        # Ours, or that of a collective without its peer. In the latter case jax ends us with 134 while we wait here.
        atexit.register(leave, 1, HEARTBEAT + 10.0)
        raise


def settings(environment: Mapping[str, str]) -> Peers | None:
    """What the three variables say, if one is set; raises UsageError if they do not make sense."""
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
    """What the cluster says that this process runs on; None where there is none, or where it is for one process."""
    if "KUBERNETES_SERVICE_HOST" in environment and not environment.keys() & {
        "JOB_COMPLETION_INDEX",  # of an indexed Job or a JobSet
        "TPU_WORKER_HOSTNAMES",  # of a TPU slice
    }:
        return None  # some pod: jax would look for the Job that it belongs to, and fail
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # "the package kubernetes is not installed", say
            coordinator, count, index, devices = ClusterEnv.auto_detect_unset_distributed_params(
                None, None, None, None, None, PATIENCE
            )
    except Exception as error:  # whatever the cluster's client, which jax asks, may raise
        reason = " ".join(str(error).split())
        raise UserError(
            f"this looks like a job of several processes, but not everything about it could be found out "
            f"({type(error).__name__}: {reason}); set {COORDINATOR}, {PROCESSES} and {PROCESS}, or {PROCESSES}=1"
        ) from error
    if coordinator is None or count is None or index is None:  # it says nothing, or all
        return None
    return Peers(coordinator, count, index, devices)


def join(peers: Peers) -> None:
    """Starts jax.distributed; returns once all processes are there."""
    host, _, port = peers.coordinator.rpartition(":")
    # This machine's processes are among themselves: nobody else needs to reach their port.
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
    """Raises Interrupted where another program listens there already: jax would crash on it."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what has just been closed is free
        try:
            probe.bind(("", port))
        except OSError as error:
            raise Interrupted(
                f"process 0 cannot listen on port {port} ({error.strerror}): end what does, or choose another port"
            ) from error


def give_up(peers: Peers) -> None:
    """Says who did not come, and ends this process with 75."""
    awaited = peers.awaited
    if peers.index > 0:
        host, _, port = peers.coordinator.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
            awaited += "; process 0 is there, so another one is missing"
        except OSError as error:
            awaited = f"process 0 of {peers.count}, which does not answer ({error.strerror or error})"
    print(
        f"jepa-speech: process {peers.index} waited {PATIENCE} s at {peers.coordinator} for {awaited}; "
        "each process that came says such a line: start the one that did not, and this one again",
        file=sys.stderr,
        flush=True,
    )
    os._exit(Interrupted.exit_code)


def leave(code: int, after: float) -> None:
    """Ends this process `after` so many seconds, without a word to the others. Without process 0 they abort at once."""
    time.sleep(after)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
