"""Digests that identify a model or a job."""

import hashlib
import json
from typing import Any

import jepa_speech
from jepa_speech.files import sha256_arrays
from jepa_speech.pretrained.load import Pretrained
from jepa_speech.training.checkpoint import by_path, weights_tree


def of_model(model: Pretrained) -> str:
    """Returns a digest of a model's weights, its config and the version of this package."""
    weights = sha256_arrays(by_path(weights_tree(model.params, model.aux_state)))
    return of_values(jepa_speech.__version__, model.written, weights)


def of_values(*values: Any) -> str:
    """Returns a digest of JSON values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]
