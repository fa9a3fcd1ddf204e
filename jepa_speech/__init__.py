"""jepa_speech: train self-supervised speech encoders with JAX.

Shape legend, used by every docstring of the package:
B batch · S samples · T frames · D width · K clusters · H heads
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and mypy; __getattr__ imports when a name is used
    from jepa_speech.api.analyze import analyze as analyze
    from jepa_speech.api.bench import bench_data as bench_data
    from jepa_speech.api.bench import bench_step as bench_step
    from jepa_speech.api.compare import compare as compare
    from jepa_speech.api.corpus import list_corpus as list_corpus
    from jepa_speech.api.demo import demo as demo
    from jepa_speech.api.embed import embed as embed
    from jepa_speech.api.evaluate import evaluate as evaluate
    from jepa_speech.api.export import export_hf as export_hf
    from jepa_speech.api.export import export_onnx as export_onnx
    from jepa_speech.api.export import export_s3prl as export_s3prl
    from jepa_speech.api.export import export_stablehlo as export_stablehlo
    from jepa_speech.api.fit_curve import fit_curve as fit_curve
    from jepa_speech.api.fit_gmm import fit_gmm as fit_gmm
    from jepa_speech.api.fit_kmeans import fit_kmeans as fit_kmeans
    from jepa_speech.api.goodput import goodput as goodput
    from jepa_speech.api.import_hf import import_hf as import_hf
    from jepa_speech.api.inspect import inspect as inspect
    from jepa_speech.api.inspect import join_stores as join_stores
    from jepa_speech.api.inspect import merge_parts as merge_parts
    from jepa_speech.api.label import label as label
    from jepa_speech.api.plan import plan as plan
    from jepa_speech.api.plan_for_tpu import plan_for_tpu as plan_for_tpu
    from jepa_speech.api.prepare import check_inputs as check_inputs
    from jepa_speech.api.prepare import prepare as prepare
    from jepa_speech.api.probe import probe as probe
    from jepa_speech.api.train import train as train
    from jepa_speech.api.transcribe import transcribe as transcribe
    from jepa_speech.pretrained.load import load_pretrained as load_pretrained
    from jepa_speech.training.configfile import load_config as load_config

__version__ = "0.1.0"

# The functions of the Python API, each with its module. None has the name of a folder or module of this package:
# importing that would replace the function.
_MODULES = {
    "analyze": "jepa_speech.api.analyze",
    "bench_data": "jepa_speech.api.bench",
    "bench_step": "jepa_speech.api.bench",
    "check_inputs": "jepa_speech.api.prepare",
    "compare": "jepa_speech.api.compare",
    "demo": "jepa_speech.api.demo",
    "embed": "jepa_speech.api.embed",
    "evaluate": "jepa_speech.api.evaluate",
    "export_hf": "jepa_speech.api.export",
    "export_onnx": "jepa_speech.api.export",
    "export_s3prl": "jepa_speech.api.export",
    "export_stablehlo": "jepa_speech.api.export",
    "fit_curve": "jepa_speech.api.fit_curve",
    "fit_gmm": "jepa_speech.api.fit_gmm",
    "fit_kmeans": "jepa_speech.api.fit_kmeans",
    "goodput": "jepa_speech.api.goodput",
    "import_hf": "jepa_speech.api.import_hf",
    "inspect": "jepa_speech.api.inspect",
    "join_stores": "jepa_speech.api.inspect",
    "label": "jepa_speech.api.label",
    "list_corpus": "jepa_speech.api.corpus",
    "load_config": "jepa_speech.training.configfile",
    "load_pretrained": "jepa_speech.pretrained.load",
    "merge_parts": "jepa_speech.api.inspect",
    "plan": "jepa_speech.api.plan",
    "plan_for_tpu": "jepa_speech.api.plan_for_tpu",
    "prepare": "jepa_speech.api.prepare",
    "probe": "jepa_speech.api.probe",
    "train": "jepa_speech.api.train",
    "transcribe": "jepa_speech.api.transcribe",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    # Lazy, so that `import jepa_speech` (and a data worker) does not import jax.
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
