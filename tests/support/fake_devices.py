"""Devices that are not there."""

import contextlib

import jax


def pretended_gpu() -> contextlib.AbstractContextManager:
    """What jax needs from 0.11 on to lower kernels for a GPU."""
    if not hasattr(jax.sharding, "AbstractDevice"):
        return contextlib.nullcontext()
    device = jax.sharding.AbstractDevice(device_kind="NVIDIA H100 80GB HBM3", num_cores=132, platform="cuda")
    return jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((1,), ("x",), abstract_device=device))
