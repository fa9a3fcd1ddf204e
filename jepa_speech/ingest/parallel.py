"""Work spread over processes that import no jax, break off with their parent, and say how far they are."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from types import ModuleType
from typing import Any

from jepa_speech.errors import UserError


def cores() -> int:
    # Of this process, where the system says: a batch job may own only some of the machine's.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def work_through(
    steps: Callable[..., Iterator[None]], tasks: Sequence[tuple], workers: int
) -> Generator[int, None, None]:
    """Runs `steps(*task)` for every task; yields again and again how many more steps are done.

    `workers`: processes (1: this one). `steps` must be a function of a module, so that processes find it. Raises what
    a step raises, UserError if a worker dies.
    """
    if workers <= 1:
        for task in tasks:
            for _ in steps(*task):
                yield 1
        return
    context = multiprocessing.get_context("spawn")  # fork would copy the threads of whoever calls
    stop, done, told = context.Event(), context.Value("q", 0), 0
    with ProcessPoolExecutor(workers, context, _start_worker, (stop, done)) as pool:
        pending: set[Future[None]] = set()
        rest = iter(tasks)
        try:
            while True:
                # A few at a time: a hundred thousand waiting would take memory.
                with _without_main():
                    pending |= {pool.submit(_run, steps, task) for task in islice(rest, 4 * workers - len(pending))}
                if not pending:
                    break
                finished, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()  # raises what the worker raised
                before, told = told, done.value
                yield told - before
        except BrokenProcessPool as error:
            raise UserError("a worker died (out of memory?); run it again with fewer workers") from error
        finally:
            stop.set()  # after an error or Ctrl-C: running tasks break off, the rest never start
            pool.shutdown(cancel_futures=True)


@contextmanager
def _without_main() -> Iterator[None]:
    """Processes that start in the block do not import the program's script: they need nothing of it, and one without
    `if __name__ == "__main__":` would run again in each.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


_stop: Event
_done: "Synchronized[int]"


def _start_worker(stop: Event, done: "Synchronized[int]") -> None:
    global _stop, _done
    _stop, _done = stop, done  # they reach a process only when it starts
    be_a_worker()


def _run(steps: Callable[..., Iterator[None]], task: tuple[Any, ...]) -> None:
    for _ in steps(*task):
        with _done.get_lock():
            _done.value += 1
        if _stop.is_set():
            raise UserError("stopped; run the same command again to go on")


def be_a_worker() -> None:
    """This process leaves interrupts to its parent, whom Ctrl-C reaches as well, and ends when that one is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a worker
    parent.join()  # a killed parent cannot tell its workers
    os._exit(1)
