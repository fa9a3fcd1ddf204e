"""Shared fixtures. Tests run on CPU; real speech is optional, found through JEPA_SPEECH_DATA."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Four pretend devices, so that sharding is exercised everywhere; set before jax wakes its backend.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"


@pytest.fixture(scope="session")
def speech_data() -> Path:
    """The folder of real labelled speech, where one is at hand."""
    folder = os.environ.get("JEPA_SPEECH_DATA", "")
    if not folder:
        pytest.skip("JEPA_SPEECH_DATA is not set: no real speech at hand")
    return Path(folder).resolve()
