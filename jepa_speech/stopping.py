"""Handling of the signals that stop a run, even while the main thread compiles, waits for a device, or hangs.

Python runs a signal handler between two instructions of the main thread, which may be minutes away. Python's C handler
writes the signal's number to a pipe at once; a thread reads it.
"""

import os
import signal
import threading
from collections.abc import Callable
from typing import NoReturn

from jepa_speech.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # USR1: as launchers on SLURM warn of a time limit


class Listener:
    """Calls `act` with the name of each of SIGNALS, in a separate thread, while the block runs.

    Only for the main thread, and for signals with a Python handler.
    """

    def __init__(self, act: Callable[[str], None]) -> None:
        self.act = act
        self.thread = threading.Thread(target=self._listen, name="signals", daemon=True)

    def __enter__(self) -> "Listener":
        self.reads, self.writes = os.pipe()
        os.set_blocking(self.writes, False)
        self.before = signal.set_wakeup_fd(self.writes, warn_on_full_buffer=False)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self.before)
        os.write(self.writes, b"\0")
        self.thread.join()
        os.close(self.reads)
        os.close(self.writes)

    def _listen(self) -> None:
        while number := os.read(self.reads, 1)[0]:
            if number in SIGNALS:
                self.act(signal.Signals(number).name)


def end_at_once(name: str) -> NoReturn:
    """Ends this process with the exit code that asks for a restart."""
    # The message begins with a line break, because it may follow a progress bar.
    os.write(2, f"\njepa-speech: {name}: nothing to save; run the same command to resume\n".encode())
    os._exit(Interrupted.exit_code)


def until_there_is_something_to_save() -> None:
    """Makes each of SIGNALS end this process at once with code 75, until other handlers are set."""
    Listener(end_at_once).__enter__()
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)  # installs Python's C handler; the thread does the work
