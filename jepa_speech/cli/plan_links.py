"""What a step sends between devices, on paper: bytes by the closed form, seconds by what links are said to carry."""

import math
from typing import Literal, NamedTuple

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
MFU = 0.4  # share of the peak that the products of a step reach: an assumption; measure it


class Bytes(NamedTuple):
    """Of a model, as float32. split: parameters that fsdp splits. slow: what else is split and used in the loss, such
    as a teacher. whole: parameters that are copied, and the sums over the batch that feed figures and codebooks.
    """

    split: int
    slow: int
    whole: int


def traffic(
    model: Bytes, data: int, fsdp: int, scatter: Literal["reduce-scatter", "all-reduce"] = "reduce-scatter"
) -> dict[str, float]:
    """Bytes that each device sends in a step, if groups are rings.

    Weights are gathered whole, once (what the forward pass gathers, the backward pass uses). Gradients are summed
    within groups of fsdp devices, each keeping its part, then across them.

    scatter: what sums within a group, so that each device keeps its part. On a CPU, XLA leaves an all-reduce and a
    slice, which sends twice as much.
    """
    devices, twice = data * fsdp, 2 if scatter == "all-reduce" else 1
    within, across, all_over = ((n - 1) / n for n in (fsdp, data, devices))
    return {
        "gathered": within * (model.split + model.slow),
        "summed within": twice * within * model.split,
        "summed across": 2 * across * model.split / fsdp + 2 * all_over * model.whole,
    }


def exchange_seconds(model: Bytes, data: int, fsdp: int, chip: Chip) -> float:
    """What `traffic` takes, one after the other, at the full speed of the links. Neighbours share an fsdp group."""

    def one_way(payload: float, group: int, near: int) -> float:
        """Gathered or scattered over `group` devices, of which `near` share a domain: first within, then between."""
        domains = math.ceil(group / near)
        return payload * ((near - 1) / near / chip.near + (domains - 1) / domains / near / chip.far)

    near = min(fsdp, chip.domain)
    within = one_way(2 * model.split + model.slow, fsdp, near)
    across = 2 * one_way(model.split / fsdp, data, min(data, max(1, chip.domain // fsdp)))
    return within + across + 2 * one_way(model.whole, data * fsdp, min(data * fsdp, chip.domain))
