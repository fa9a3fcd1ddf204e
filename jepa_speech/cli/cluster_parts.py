"""Runs the parts of a verb (`--part i/n`) on the workers of a Dask cluster.

Only lists of strings are sent, and only [exit code, line] returns. Each part runs in a process of its own on its
worker. It ends with the worker, and with the client. `python -m jepa_speech.cli.cluster_parts` is that process.
"""

import asyncio
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from tqdm import tqdm

from jepa_speech.errors import UserError
from jepa_speech.progress import say

LOCAL = "local:"
PARTS_PER_THREAD = 4
TRIES = 4  # starts of a part whose process was killed
CONNECT_SECONDS = 10
NO_WEB_PAGES: dict[str, Any] = {"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []}


def local_workers(address: str) -> int:
    """Returns N of the address local:N, or 0 for the address of a scheduler."""
    return int(address.removeprefix(LOCAL)) if address.startswith(LOCAL) else 0


def run_parts(address: str, command: Sequence[str], parts: int | None = None, progress: bool = False) -> None:
    """Runs `jepa-speech COMMAND --part i/parts` for all i on a cluster.

    Args:
        address: local:N for N workers in this process, or the address of a scheduler.
        command: the verb and its options. All paths must be absolute, and mean the same on all workers.
        parts: by default 4 per thread of the workers.
        progress: show a bar of parts on stderr.

    A part is run again if its worker is lost (Dask's `allowed-failures` limits this) or its process is killed, up to
    four times. Raises UserError if Dask is missing, the scheduler does not answer, or a part fails.
    """
    try:
        from distributed import as_completed
    except ImportError as error:
        raise UserError("--cluster needs Dask: pip install distributed") from error
    with _connected(address) as client:
        if not client.nthreads():
            say(f"{address} has no workers yet; waiting for one")
            client.wait_for_workers(1)
        parts = parts or PARTS_PER_THREAD * sum(client.nthreads().values())

        def submit(i: int) -> Any:
            return client.submit(run_part, [*command, "--part", f"{i}/{parts}"], pure=False)

        running = {submit(i): i for i in range(parts)}
        starts = [1] * parts
        completed = as_completed(running)
        with tqdm(total=parts, desc="parts", unit=" parts", disable=not progress) as done:
            for future in completed:
                i = running.pop(future)
                if future.status != "finished":
                    why = future.exception() if future.status == "error" else "the connection to the scheduler was lost"
                    raise UserError(f"part {i}/{parts}: {why}; run the same command to resume")
                code, line = future.result()
                future.release()  # else Dask would repeat this part if the worker that has the result is lost
                if code < 0 and starts[i] < TRIES:
                    say(f"part {i}/{parts} was killed (signal {-code}); starting it again")
                    starts[i] += 1
                    again = submit(i)
                    running[again] = i
                    completed.add(again)
                elif code:
                    raise UserError(f"part {i}/{parts} ended with {code}: {line}")
                else:
                    done.update()


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """A client of the cluster. It refuses results that only a pickle could carry."""
    import dask
    from distributed import Client, LocalCluster

    logging.getLogger("distributed").setLevel(logging.ERROR)  # else Dask reports how it closes, after our line
    with ExitStack() as opened:
        target: Any = address
        if workers := local_workers(address):
            # In one process, workers talk without sockets. Anyone on a shared machine could use those of a scheduler.
            # What listens is a web server without pages.
            opened.enter_context(dask.config.set(NO_WEB_PAGES))
            web = {"dashboard_address": "127.0.0.1:0", "worker_dashboard_address": "127.0.0.1:0"}
            options = {"threads_per_worker": 1, "processes": False, "silence_logs": logging.ERROR}
            target = opened.enter_context(LocalCluster(n_workers=workers, **options, **web))
        else:
            _check_that_it_answers(address)
        plain = {"serializers": ["msgpack"], "deserializers": ["msgpack", "error"]}
        try:
            client = opened.enter_context(Client(target, timeout=CONNECT_SECONDS, **plain))
        except (OSError, TypeError, ValueError) as error:
            raise UserError(f"--cluster {address}: no scheduler of Dask answers there ({error})") from error
        yield client


def _check_that_it_answers(address: str) -> None:
    """Raises UserError unless Dask answers at an address, where `Client` would wait for other servers without end."""
    from distributed.comm import connect
    from distributed.security import Security

    async def greet() -> None:
        comm = await connect(address, timeout=CONNECT_SECONDS, **Security().get_connection_args("client"))
        comm.abort()

    try:
        asyncio.run(asyncio.wait_for(greet(), CONNECT_SECONDS + 1))
    # The first bytes of another server's answer, read as a length, are a MemoryError.
    except (MemoryError, OSError, TypeError, ValueError) as error:
        why = "" if isinstance(error, MemoryError) else str(error)
        why = why or "another program listens there"
        raise UserError(f"--cluster {address}: no scheduler of Dask answers there ({why})") from error


def run_part(arguments: list[str]) -> list[Any]:
    """Runs one command on a worker. Returns its exit code (-N after signal N) and the last line of its stderr."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()
    command = [sys.executable, "-m", "jepa_speech.cli.cluster_parts", *arguments]
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said) as process:
            assert process.stdin is not None
            while process.poll() is None:
                if worker.state.tasks[key].state == "cancelled":  # the client has left, or failed
                    process.stdin.close()
                time.sleep(0.2)
        said.seek(0)
        lines = said.read().decode(errors="replace").splitlines()
    return [process.returncode, lines[-1] if lines else ""]


def main() -> int:
    """Runs the command line, until stdin ends."""

    def end_with_stdin() -> None:
        while os.read(0, 1024):  # a read of sys.stdin would hold a lock that Python needs at its end
            pass
        os._exit(75)

    threading.Thread(target=end_with_stdin, daemon=True).start()
    from jepa_speech.cli import main as command_line

    return command_line(sys.argv[1:])


if __name__ == "__main__":
    raise SystemExit(main())
