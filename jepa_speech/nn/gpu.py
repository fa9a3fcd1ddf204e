"""Whether layers are traced in forms that are fast on a GPU, or in their plain forms."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import jax

_written = ContextVar("as_written", default=False)


def on_gpu() -> bool:
    """Returns whether to use the forms for a GPU: on one, and outside `as_written`."""
    return not _written.get() and jax.default_backend() == "gpu"  # in this order: asking for the backend claims a GPU


def kernels_wanted() -> bool:
    """Returns whether to use the custom GPU kernels: where `on_gpu`, unless JEPA_SPEECH_KERNELS=0."""
    return on_gpu() and os.environ.get("JEPA_SPEECH_KERNELS", "1") != "0"


@contextmanager
def as_written() -> Iterator[None]:
    """Traces the plain forms inside the block: to count the model's work, or for a program that any device can run."""
    token = _written.set(True)
    try:
        yield
    finally:
        _written.reset(token)
