"""Which forms functions are traced in: those fast on a GPU, those small on a TPU, or the plain ones."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Literal

import jax

_chosen: ContextVar[str | None] = ContextVar("platform", default=None)


def on_gpu() -> bool:
    """Returns whether to use the forms for a GPU: on one, and outside `written_for` and `as_written`."""
    return _platform() == "gpu"


def on_tpu() -> bool:
    """Returns whether to use the forms for a TPU: on one or inside `written_for("tpu")`, and not in `as_written`."""
    return _platform() == "tpu"


def kernels_wanted() -> bool:
    """Returns whether to use the custom GPU kernels: where `on_gpu`, unless JEPA_SPEECH_KERNELS=0."""
    return on_gpu() and os.environ.get("JEPA_SPEECH_KERNELS", "1") != "0"


@contextmanager
def written_for(platform: Literal["tpu", "any"]) -> Iterator[None]:
    """Traces the forms for a TPU, or the plain ones, inside the block, whatever device is at hand."""
    token = _chosen.set(platform)
    try:
        yield
    finally:
        _chosen.reset(token)


def as_written() -> AbstractContextManager[None]:
    """Traces the plain forms inside the block: to count the model's work, or for a program that any device can run."""
    return written_for("any")


def _platform() -> str:
    return _chosen.get() or jax.default_backend()  # in this order: asking for the backend claims a GPU
