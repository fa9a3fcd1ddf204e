"""Whether layers are computed as is fast on a GPU, or as they are written down."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import jax

_written = ContextVar("as_written", default=False)


def on_gpu() -> bool:
    """Returns whether to use the custom GPU kernels (on a GPU, unless JEPA_SPEECH_KERNELS=0)."""
    return jax.default_backend() == "gpu" and not _written.get()


def kernels_wanted() -> bool:
    """True on a GPU for which kernels of our own may be written: not with JEPA_SPEECH_KERNELS=0."""
    return on_gpu() and os.environ.get("JEPA_SPEECH_KERNELS", "1") != "0"


@contextmanager
def as_written() -> Iterator[None]:
    """Inside, what is traced are the plain forms: to count the model's work, not that of computing it."""
    token = _written.set(True)
    try:
        yield
    finally:
        _written.reset(token)
