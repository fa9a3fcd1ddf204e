"""A command as one process or several, on pretend devices."""

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from support.compile_fast import COMPILE_FAST

from jepa_speech.training.distributed import COORDINATOR, PROCESS, PROCESSES

TESTS = Path(__file__).parents[1]


def environments(processes: int, devices: int) -> list[dict[str, str]]:
    """What each of `processes` that share `devices` equally needs to know."""
    shared = {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices // processes} {COMPILE_FAST}",
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
        PROCESSES: str(processes),
    }
    if processes == 1:
        return [shared]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        shared[COORDINATOR] = f"127.0.0.1:{probe.getsockname()[1]}"
    return [shared | {PROCESS: str(index)} for index in range(processes)]


class Process(subprocess.Popen):
    """Prints into a file: a pipe that nobody reads would fill up."""

    def __init__(self, command: Sequence[object], environment: dict[str, str], said: Path) -> None:
        self.said = said
        with said.open("ab") as file:
            super().__init__([*map(str, command)], env=os.environ | environment, stdout=file, stderr=file)

    @property
    def words(self) -> str:
        return self.said.read_text(errors="replace")


@contextmanager
def started(command: Sequence[object], processes: int = 1, devices: int = 1) -> Iterator[list[Process]]:
    """The running processes; none of them outlives the block."""
    running: list[Process] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for index, environment in enumerate(environments(processes, devices)):
                running.append(Process(command, environment, Path(folder) / str(index)))
            yield running
        finally:
            for process in running:
                process.kill()
                process.wait()


def run(command: Sequence[object], processes: int = 1, devices: int = 1, timeout: float = 300) -> list[tuple[int, str]]:
    """Exit code of each process, and what it printed, once all have ended."""
    with started(command, processes, devices) as running:
        return [(process.wait(timeout), process.words) for process in running]
