"""Vendors' figures of their chips: the only figures of speed here that were not measured."""

from typing import NamedTuple

GB = 1e9


class Chip(NamedTuple):
    """What its vendor says of it. near: bytes a second that a device sends within a domain of so many; far: beyond."""

    flops: float  # a second, bfloat16, without sparsity
    memory: float  # bytes
    near: float
    domain: int
    far: float


# TPUs: cloud.google.com/tpu/docs/v4, v5e, v5p, v6e. near: a ring along one axis of the torus, both ways: the bandwidth
# of all links over the number of axes (3, 2, 3, 2). domain: a pod. far: the data centre's network, v5e 6.4 Tb/s and v6e
# 25.6 Tb/s a pod of 256; v4 and v5p 200 Gb/s for a host of 4, an assumption.
# GPUs: NVIDIA's data sheets of A100 SXM 80 GB, H100 SXM and H200 SXM. near: NVLink, one way. domain: 8 in a DGX or HGX.
# far: a network card of 200 Gb/s (A100) or 400 Gb/s (H100, H200) for each, as in a DGX.
CHIPS = {
    "v4": Chip(275e12, 32 * GB, 2400 / 8 / 3 * GB, 4096, 200 / 8 / 4 * GB),
    "v5e": Chip(197e12, 16 * GB, 1600 / 8 / 2 * GB, 256, 6400 / 8 / 256 * GB),
    "v5p": Chip(459e12, 95 * GB, 4800 / 8 / 3 * GB, 8960, 200 / 8 / 4 * GB),
    "v6e": Chip(918e12, 32 * GB, 3584 / 8 / 2 * GB, 256, 25_600 / 8 / 256 * GB),
    "a100": Chip(312e12, 80 * GB, 600 / 2 * GB, 8, 200 / 8 * GB),
    "h100": Chip(989e12, 80 * GB, 900 / 2 * GB, 8, 400 / 8 * GB),
    "h200": Chip(989e12, 141 * GB, 900 / 2 * GB, 8, 400 / 8 * GB),
}

# As jax calls a whole one of them (`device_kind`). Others of the family (PCIe cards, parts of a GPU) are slower.
KINDS = {
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5e": "v5e",
    "TPU v5": "v5p",
    "TPU v5p": "v5p",
    "TPU v6 lite": "v6e",
    "TPU v6e": "v6e",
    "NVIDIA A100-SXM4-80GB": "a100",
    "NVIDIA H100 80GB HBM3": "h100",
    "NVIDIA H200": "h200",
}


def chip_of(kind: str) -> Chip | None:
    """The chip that jax calls so; None where none is known by this name, as on a CPU."""
    return CHIPS.get(KINDS.get(kind, ""))
