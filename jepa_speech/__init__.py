"""jepa_speech: train self-supervised speech encoders with JAX.

Shape legend, used by every docstring of the package:
B batch · S samples · T frames · D width · K clusters · H heads
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["load_pretrained"]


def __getattr__(name: str) -> Any:
    # Lazy, so that `import jepa_speech` (and a data worker) does not import jax.
    if name == "load_pretrained":
        from jepa_speech.pretrained.load import load_pretrained

        return load_pretrained
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
