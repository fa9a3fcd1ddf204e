"""Estimates of what a corpus and a run will cost, before anything is copied or paid for."""

import math
from pathlib import Path
from typing import Any, Literal

from jepa_speech.costs.corpus_on_paper import CONSTANTS, corpus_on_paper
from jepa_speech.costs.exchange import MFU, exchange_seconds, traffic
from jepa_speech.costs.step_on_paper import step_on_paper
from jepa_speech.costs.synthetic import ANCHOR
from jepa_speech.errors import UsageError
from jepa_speech.ingest.audio import CODECS
from jepa_speech.local_paths import takes_local_paths
from jepa_speech.settings.run_config import RunConfig
from jepa_speech.training.chips import CHIPS, Chip
from jepa_speech.training.configfile import Overrides, run_config_of
from jepa_speech.training.sharding import mesh_sizes
from jepa_speech.wording import counted

DEVICES_PER_HOST = 8


@takes_local_paths
def plan(
    config: RunConfig | str | Path,
    hours: float,
    devices: int,
    *,
    overrides: Overrides = (),
    hosts: int | None = None,
    codec: Literal["flac", "pcm16"] = "flac",
    chip: str | None = None,
    mfu: float = MFU,
    steps_per_second: float | None = None,
    recording_seconds: float = CONSTANTS["recording"].value,
) -> dict[str, Any]:
    """Compute what a corpus and a run on it will cost, from shapes and measured constants. Nothing is compiled.

    Args:
        config, overrides: see `train`.
        hours: of audio in the corpus.
        devices: accelerators, over all hosts.
        hosts: by default one for 8 devices.
        codec: of the store.
        chip: what the devices are ("a100", "h100", "v5e", ...): adds days and communication time to the result.
        mfu: the share of the chip's peak that is reached. The default is an assumption.
        steps_per_second: as measured. By default what `chip` makes without overlap, or 1.
        recording_seconds: mean length of a recording. The default is that of LibriSpeech.

    Returns a dict of figures whose names end with their units (GB: 1e9 bytes; TFLOP_per_step, days_..., ..._per_s):
    of the corpus up to `steps_per_second`, then of a step on one device, and with `chip` of the run. Also `hosts`,
    `assumed` (what the config leaves open of the anchor) and `constants` (value, unit and source of each measured
    figure).

    Raises UsageError if an argument is wrong or the devices do not form the config's mesh.
    """
    hosts = math.ceil(devices / DEVICES_PER_HOST) if hosts is None else hosts
    above_0 = {"hours": hours, "devices": devices, "steps_per_second": steps_per_second}
    for name, value in (above_0 | {"recording_seconds": recording_seconds, "mfu": mfu}).items():
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"{name} = {value:g}: choose one above 0")
    if mfu > 1:
        raise UsageError(f"mfu = {mfu:g}: a share of the peak, so at most 1")
    if hosts < 1 or devices % hosts:
        raise UsageError(f"hosts = {hosts}: {counted(devices, 'device')} do not divide evenly among them")
    if chip is not None and chip not in CHIPS:
        raise UsageError(f"chip = {chip!r}: known are {', '.join(CHIPS)}")
    if codec not in CODECS:
        raise UsageError(f"codec = {codec!r}: choose {' or '.join(CODECS)}")
    config = run_config_of(config, overrides)
    of_run = run_on_paper(config, devices, CHIPS[chip] if chip else None, mfu)
    rate = steps_per_second or of_run.get("steps_per_second_without_overlap", 1.0)
    of_corpus = corpus_on_paper(
        batch_seconds=config.data.batch_seconds,
        steps=config.train.steps,
        hours=hours,
        devices=devices,
        hosts=hosts,
        codec=codec,
        steps_per_second=rate,
        recording_seconds=recording_seconds,
    )
    assumed = {key: value for key, value in ANCHOR.items() if not getattr(config.anchor, key)}
    constants = {name: constant._asdict() for name, constant in CONSTANTS.items()}
    figures = of_corpus | {"steps_per_second": rate} | of_run
    return figures | {"hosts": hosts, "assumed": assumed, "constants": constants}


def run_on_paper(config: RunConfig, devices: int, chip: Chip | None, mfu: float) -> dict[str, float]:
    """Memory and work of a step, what it sends, and with `chip` what the run takes."""
    data, fsdp = mesh_sizes(config.mesh, devices)
    figures, model = step_on_paper(config, devices)
    figures |= {f"{name.replace(' ', '_')}_MB": sent / 1e6 for name, sent in traffic(model, data, fsdp).items()}
    if chip is None:
        return figures
    steps = config.train.steps
    work = figures["TFLOP_per_step"] * 1e12 / devices / (chip.flops * mfu)
    exchange = exchange_seconds(model, data, fsdp, chip)
    return figures | {
        "work_ms_per_step": 1e3 * work,
        "exchange_ms_per_step": 1e3 * exchange,
        "steps_per_second_without_overlap": 1 / (work + exchange),
        "days_without_overlap": steps * (work + exchange) / 86_400,
        "days_with_full_overlap": steps * max(work, exchange) / 86_400,
    }
