"""Stop a run after a signal to this process or, with several processes, to any of them."""

import os
import signal
from collections.abc import Callable
from types import FrameType

import jax
from jax.experimental import multihost_utils  # 2026-11: experimental, no removal announced, no replacement

from jepa_speech.errors import Interrupted
from jepa_speech.stopping import SIGNALS, Listener


class Stop:
    """Records the first SIGINT, SIGTERM or SIGUSR1, so that the loop can save. A second one ends the process at once.

    hurry: called with the name of the first signal, in another thread, even if the main thread is blocked.

    With several processes, JAX's preemption service handles SIGTERM and makes all of them stop at the same step. The
    others are passed on to it as SIGTERM.
    """

    signal: str | None = None

    def __init__(self, hurry: Callable[[str], None]) -> None:
        self.hurry, self.signals = hurry, 0
        self.listener = Listener(self._on_signal)

    def __enter__(self) -> "Stop":
        mine = SIGNALS if jax.process_count() == 1 else [s for s in SIGNALS if s != signal.SIGTERM]
        self.listener.__enter__()
        self.before = {s: signal.signal(s, self._note) for s in mine}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.listener.__exit__()

    def asked(self, step: int) -> str | None:
        """Returns the name of the signal if the run is to stop at `step`, the same on every process; otherwise None."""
        if jax.process_count() > 1:
            return "SIGTERM" if multihost_utils.reached_preemption_sync_point(step) else None
        return self.signal

    def _note(self, number: int, _: FrameType | None) -> None:
        self.signal = signal.Signals(number).name
        for other in self.before:
            signal.signal(other, signal.SIG_DFL)
        if jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)

    def _on_signal(self, name: str) -> None:
        self.signals += 1
        if self.signals > 1:  # the main thread is blocked; otherwise its handler would have restored the default
            os.write(2, f"second signal ({name}): ended without saving; the newest whole checkpoint stays\n".encode())
            os._exit(Interrupted.exit_code)
        self.hurry(name)
