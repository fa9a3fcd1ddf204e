"""jepa_speech: train self-supervised speech encoders with JAX.

Shape legend, used by every docstring of the package:
B batch · S samples · T frames · D width · K clusters · H heads
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and mypy; __getattr__ imports when a name is used
    from jepa_speech.api.inspect import inspect as inspect
    from jepa_speech.api.inspect import join_stores as join_stores
    from jepa_speech.api.inspect import merge_parts as merge_parts
    from jepa_speech.api.prepare import check_inputs as check_inputs
    from jepa_speech.api.prepare import prepare as prepare
    from jepa_speech.api.train import train_encoder as train_encoder
    from jepa_speech.pretrained.load import load_pretrained as load_pretrained
    from jepa_speech.train.configfile import load_config as load_config

__version__ = "0.1.0"

# The functions of the Python API, each with its module. None has the name of a folder or module of this package:
# importing that would replace the function.
_MODULES = {
    "check_inputs": "jepa_speech.api.prepare",
    "inspect": "jepa_speech.api.inspect",
    "join_stores": "jepa_speech.api.inspect",
    "merge_parts": "jepa_speech.api.inspect",
    "prepare": "jepa_speech.api.prepare",
    "load_config": "jepa_speech.train.configfile",
    "load_pretrained": "jepa_speech.pretrained.load",
    "train_encoder": "jepa_speech.api.train",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    # Lazy, so that `import jepa_speech` (and a data worker) does not import jax.
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
