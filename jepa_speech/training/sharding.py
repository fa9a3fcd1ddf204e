"""Placement of arrays: a mesh (data, fsdp), the same code for one device and for many."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
import numpy as np

# 2026-11: jax.experimental, though documented; jax.make_mesh cannot do this.
from jax.experimental.mesh_utils import create_device_mesh, create_hybrid_device_mesh
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jepa_speech.errors import UsageError
from jepa_speech.settings.training import COPY, LARGEST, MeshConfig, parsed


def mesh_sizes(config: MeshConfig, devices: int) -> tuple[int, int]:
    """(data, fsdp); raises UsageError if so many devices do not form the mesh."""
    data = devices // max(1, config.fsdp) if config.data == -1 else config.data
    if config.fsdp < 1 or data < 1 or data * config.fsdp != devices:
        raise UsageError(
            f"mesh.data = {config.data} x mesh.fsdp = {config.fsdp} does not make up the {devices} devices "
            "at hand: set mesh.data = -1 and a mesh.fsdp that divides them"
        )
    return data, config.fsdp


def make_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """The mesh of these devices, by default all. The devices of an fsdp group are neighbours, in one slice of a TPU.

    Raises UsageError if the devices do not form the mesh.
    """
    devices = jax.devices() if devices is None else devices
    data, fsdp = mesh_sizes(config, len(devices))
    # jax.make_mesh refuses several slices, and on most TPUs an fsdp that does not fill whole axes of the torus.
    slices = len({getattr(d, "slice_index", 0) for d in devices}) if devices[0].platform == "tpu" else 1
    if data % slices:
        raise UsageError(
            f"mesh.fsdp = {fsdp}: a group must lie within one of the {slices} slices: choose a divisor of "
            f"{len(devices) // slices}, the devices of a slice"
        )
    if slices > 1:
        sizes = (data // slices, fsdp), (slices, 1)
        grid = create_hybrid_device_mesh(*sizes, devices, allow_split_physical_axes=True)
    else:
        grid = create_device_mesh((data, fsdp), devices, allow_split_physical_axes=True)
    # jax's default would be explicit axes, which ask every matmul for its output sharding.
    return Mesh(grid, ("data", "fsdp"), axis_types=(AxisType.Auto, AxisType.Auto))


def mesh_on_paper(config: MeshConfig, devices: int) -> AbstractMesh:
    """The mesh of so many devices, none of which need be there; raises UsageError if they do not form it."""
    return AbstractMesh(mesh_sizes(config, devices), ("data", "fsdp"))


def replicated(mesh: Mesh | AbstractMesh) -> NamedSharding:
    return NamedSharding(mesh, P())


def array_sharding(mesh: Mesh | AbstractMesh, shape: tuple[int, ...], axis: int | str = LARGEST) -> NamedSharding:
    """Matrices and larger: split over fsdp along the axis; vectors: a copy on each.

    Raises ValueError for an axis that is not there, or that fsdp does not divide.
    """
    fsdp = mesh.shape["fsdp"]
    if len(shape) < 2 or axis == COPY:
        return replicated(mesh)
    if isinstance(axis, str):  # LARGEST
        axes = [number for number, size in enumerate(shape) if size % fsdp == 0]
        if not axes:
            return replicated(mesh)
        axis = max(axes, key=lambda number: shape[number])
    elif not -len(shape) <= axis < len(shape):
        raise ValueError(f"it has no axis {axis}")
    elif shape[axis] % fsdp:
        raise ValueError(f"mesh.fsdp = {fsdp} does not divide axis {axis}")
    if fsdp == 1:
        return replicated(mesh)
    return NamedSharding(mesh, P(*("fsdp" if i == axis % len(shape) else None for i in range(len(shape)))))


def by_rules(
    mesh: Mesh | AbstractMesh, rules: Sequence[str], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, NamedSharding]:
    """Returns where each array of the state is placed, by its path.

    Raises UsageError for a rule that cannot be applied, and for one that fits no array.
    """
    globs = {rule: parsed(rule) for rule in rules}
    unused, places = set(rules), {}
    for path, shape in shapes.items():
        rule = next((rule for rule, (glob, _) in globs.items() if fnmatchcase(path, glob)), None)
        unused.discard(rule)
        try:
            places[path] = array_sharding(mesh, shape, globs[rule][1] if rule else COPY)
        except ValueError as error:
            raise UsageError(f"config key mesh.rules: {rule!r} fits {path} {shape}, but {error}") from None
    if unused:
        named = " and ".join(repr(rule) for rule in rules if rule in unused)
        some = [path for path, shape in shapes.items() if len(shape) > 1]
        raise UsageError(
            f"config key mesh.rules: no array is left for {named}; paths look like {some[0]} and {some[-1]}, "
            "and the first rule that fits holds"
        )
    return places


def batch_sharding(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """By row over all devices."""
    return NamedSharding(mesh, P(("data", "fsdp")))


def place_batch(mesh: Mesh, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """This process's rows, as global arrays split by row over all devices."""
    rows = batch_sharding(mesh)
    # With several processes, jax takes its own way of doing this for an unintended transfer.
    with jax.transfer_guard_host_to_device("allow"):
        return {name: jax.make_array_from_process_local_data(rows, array) for name, array in batch.items()}
