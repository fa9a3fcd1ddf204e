"""Distributes work over processes without jax, which report progress and end with their parent."""

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
    # A batch job may be allowed only some of the machine's cores; the system may not say which.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def work_through(
    steps: Callable[..., Iterator[None]], tasks: Sequence[tuple], workers: int
) -> Generator[int, None, None]:
    """Runs `steps(*task)` for every task; yields the number of steps done since the last yield.

    workers: number of processes; 1 means this process. `steps` must be a module-level function, so that it can be
    pickled. Raises the exception of a step, or UserError if a worker process ends unexpectedly.
    """
    if workers <= 1:
        for task in tasks:
            for _ in steps(*task):
                yield 1
        return
    context = multiprocessing.get_context("spawn")  # fork is unsafe if the caller has threads
    stop, done, reported = context.Event(), context.Value("q", 0), 0
    with ProcessPoolExecutor(workers, context, _start_worker, (stop, done)) as pool:
        pending: set[Future[None]] = set()
        rest = iter(tasks)
        try:
            while True:
                # Only a few are submitted at a time, because a hundred thousand would take memory.
                with _without_main():
                    pending |= {pool.submit(_run, steps, task) for task in islice(rest, 4 * workers - len(pending))}
                if not pending:
                    break
                finished, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()  # raises what the worker raised
                before, reported = reported, done.value
                yield reported - before
        except BrokenProcessPool as error:
            raise UserError("a worker died (out of memory?); run it again with fewer workers") from error
        finally:
            stop.set()  # after an error or Ctrl-C, running tasks stop and the others never start
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
    _stop, _done = stop, done  # such objects can be passed to a process only at its start
    be_a_worker()


def _run(steps: Callable[..., Iterator[None]], task: tuple[Any, ...]) -> None:
    for _ in steps(*task):
        with _done.get_lock():
            _done.value += 1
        if _stop.is_set():
            raise UserError("stopped; run the same command again to resume")


def be_a_worker() -> None:
    """Makes this process ignore Ctrl-C, which its parent handles, and end when the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a worker
    parent.join()  # a killed parent cannot stop its workers
    os._exit(1)
