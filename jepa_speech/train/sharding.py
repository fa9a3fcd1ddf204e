"""Where arrays live: a mesh (data, fsdp), the same code for one device and for many."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jepa_speech.errors import UsageError


@dataclass(frozen=True)
class MeshConfig:
    """Config section `mesh`. Batches are split over data x fsdp, parameters over fsdp."""

    data: int = -1  # -1: all devices that fsdp leaves
    fsdp: int = 1


def make_mesh(config: MeshConfig) -> Mesh:
    """Raises UsageError if the devices at hand do not form the mesh."""
    devices = jax.device_count()
    data = devices // max(1, config.fsdp) if config.data == -1 else config.data
    if config.fsdp < 1 or data < 1 or data * config.fsdp != devices:
        raise UsageError(
            f"mesh.data = {config.data} x mesh.fsdp = {config.fsdp} does not make up the {devices} devices "
            "at hand: set mesh.data = -1 and a mesh.fsdp that divides them"
        )
    # jax's default would be explicit axes, which ask every matmul for its output sharding.
    return jax.make_mesh((data, config.fsdp), ("data", "fsdp"), (AxisType.Auto, AxisType.Auto))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, P())


def array_sharding(mesh: Mesh, shape: tuple[int, ...]) -> NamedSharding:
    """Matrices and larger: split over fsdp along the largest axis that it divides. Else a copy on each."""
    fsdp = mesh.shape["fsdp"]
    axes = [axis for axis, size in enumerate(shape) if size % fsdp == 0]
    if fsdp == 1 or len(shape) < 2 or not axes:
        return replicated(mesh)
    largest = max(axes, key=lambda axis: shape[axis])
    return NamedSharding(mesh, P(*("fsdp" if axis == largest else None for axis in range(len(shape)))))


def place_batch(mesh: Mesh, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """This process's rows, as global arrays split by row over all devices."""
    rows = NamedSharding(mesh, P(("data", "fsdp")))
    # With several processes, jax takes its own way of doing this for a transfer that nobody meant.
    with jax.transfer_guard_host_to_device("allow"):
        return {name: jax.make_array_from_process_local_data(rows, array) for name, array in batch.items()}
