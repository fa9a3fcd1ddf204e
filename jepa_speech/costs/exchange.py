"""Estimates of what a step sends between devices: bytes by the closed form, seconds by what links are said to carry."""

import math
from typing import Literal, NamedTuple

from jepa_speech.training.chips import Chip

MFU = 0.4  # share of the peak that the products of a step reach: an assumption; measure it


class Bytes(NamedTuple):
    """Of a model, as float32. split: parameters that fsdp splits. aux_state: what else is split and used in the loss,
    such as a teacher. whole: parameters that are copied, and the sums over the batch that feed figures and codebooks.
    """

    split: int
    aux_state: int
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
        "gathered": within * (model.split + model.aux_state),
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
    within = one_way(2 * model.split + model.aux_state, fsdp, near)
    across = 2 * one_way(model.split / fsdp, data, min(data, max(1, chip.domain // fsdp)))
    return within + across + 2 * one_way(model.whole, data * fsdp, min(data * fsdp, chip.domain))
