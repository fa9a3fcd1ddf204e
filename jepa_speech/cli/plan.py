"""`jepa-speech plan`: what a corpus and a run will cost, on paper, before anything is copied or paid for."""

import argparse
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from jepa_speech.cli.plan_links import MFU, exchange_seconds, traffic
from jepa_speech.cli.plan_model import step_on_paper
from jepa_speech.costs.synthetic import ANCHOR
from jepa_speech.errors import UsageError
from jepa_speech.features.grid import FRAME_RATE
from jepa_speech.settings.run_config import RunConfig
from jepa_speech.store.description import INDEX
from jepa_speech.train.chips import CHIPS
from jepa_speech.train.configfile import load_config
from jepa_speech.train.sharding import mesh_sizes
from jepa_speech.wording import counted

HELP = "on paper: bytes, passes and read rates of a corpus; memory, work and days of a run on so many devices"
EXAMPLE = "jepa-speech plan --config configs/gmm_jepa.py --hours 100000 --devices 64 --chip v5e"
DEVICES_PER_HOST = 8
MORE_ROOM = "raise mesh.fsdp or train.accumulate, set encoder.remat = True, or take more devices"
FIT_HOURS, FIT_PASSES = 100.0, 20  # a reservoir of the corpus, and how often the fit goes over it, at most


class Measured(NamedTuple):
    """A figure that is no arithmetic, and where it comes from."""

    value: float
    unit: str
    source: str


CONSTANTS = {
    "flac": Measured(66.0, "MB per hour", "docs/data.md: LibriSpeech as a store"),
    "pcm16": Measured(116.0, "MB per hour", "docs/data.md: LibriSpeech as a store (samples: 115.2)"),
    "recording": Measured(12.7, "s", "mean of LibriSpeech train-clean-100, benchmarks/librispeech_durations.json"),
    "padding": Measured(0.091, "of a batch", "the same durations in buckets of 5, 10 and 15 s"),
    "sharp labels": Measured(5.0, "bytes per frame", "top-k 16 of 1,024 at a perplexity of 1.16"),
    "soft labels": Measured(51.7, "bytes per frame", "docs/anchors.md: top-k 64 of 1,024 at a perplexity of 3.7"),
    "flac reader": Measured(2000.0, "audio-s per s of a core", "docs/scale.md: reading, cropping, padding"),
    "pcm16 reader": Measured(10_000.0, "audio-s per s of a core", "docs/scale.md: reading, cropping, padding"),
    "restore": Measured(0.13e-6, "s per recording", "docs/scale.md: 3.2 s for 25 million"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        required=True,
        metavar="FILE[:VARIANT]",
        help="such as configs/gmm_jepa.py, or gmm_jepa for the package's own",
    )
    parser.add_argument("--hours", type=float, required=True, metavar="H", help="of audio in the corpus")
    parser.add_argument("--devices", type=int, required=True, metavar="D", help="accelerators, over all hosts")
    parser.add_argument("--hosts", type=int, metavar="N", help=f"default: one for {DEVICES_PER_HOST} devices")
    parser.add_argument("--codec", choices=("flac", "pcm16"), default="flac")
    parser.add_argument("--chip", choices=CHIPS, help="what the devices are: also days, and what links take")
    parser.add_argument(
        "--mfu", type=float, default=MFU, help=f"share of the chip's peak that is reached (default: {MFU}, assumed)"
    )
    parser.add_argument(
        "--steps-per-second", type=float, metavar="R", help="that were measured (default: as --chip makes, or 1)"
    )
    parser.add_argument(
        "--recording-seconds",
        type=float,
        default=CONSTANTS["recording"].value,
        metavar="S",
        help=f"mean length of a recording (default: {CONSTANTS['recording'].value}, as in LibriSpeech)",
    )
    parser.description = f"{parser.description}; --config.KEY=VALUE changes a key of the config"


def run(options: argparse.Namespace) -> dict[str, Any]:
    hosts = options.hosts or math.ceil(options.devices / DEVICES_PER_HOST)
    for name in ("hours", "devices", "steps_per_second", "recording_seconds", "mfu"):
        value = getattr(options, name)
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"--{name.replace('_', '-')} {value:g}: choose one above 0")
    if options.mfu > 1:
        raise UsageError(f"--mfu {options.mfu:g}: a share of the peak, so at most 1")
    if hosts < 1 or options.devices % hosts:
        raise UsageError(f"{options.devices} devices on {hosts} hosts: as many on each needed; pass --hosts")
    config = load_config(options.config, options.overrides)
    assumed = {key: value for key, value in ANCHOR.items() if not getattr(config.anchor, key)}
    steps = config.train.steps
    run_figures = of_a_run(config, options, steps)
    rate = options.steps_per_second or run_figures.get("steps_per_second_without_overlap", 1.0)
    figures = on_paper(
        batch_seconds=config.data.batch_seconds,
        steps=steps,
        hours=options.hours,
        devices=options.devices,
        hosts=hosts,
        codec=options.codec,
        steps_per_second=rate,
        recording_seconds=options.recording_seconds,
    )
    place = f"{counted(options.devices, 'device')} on {counted(hosts, 'host')}"
    print(f"{options.config}, {options.hours:g} h, {place}, {options.codec}")
    show(figures | {"steps_per_second": rate})
    chip = f"{options.chip} at {options.mfu:.0%} of its peak (assumed)" if options.chip else "devices"
    print(f"a step, by the shapes of its arrays, on {options.devices} {chip}:")
    show(run_figures)
    if assumed:
        print(f"assumed of the anchor: {', '.join(f'{key} {value}' for key, value in assumed.items())}")
    if options.chip and run_figures["device_GB"] * 1e9 > CHIPS[options.chip].memory:
        print(f"more than the {CHIPS[options.chip].memory / 1e9:g} GB of a {options.chip}: {MORE_ROOM}")
    print("reckoned from these, which were measured:")
    for name, constant in CONSTANTS.items():
        print(f"  {name:<14}{constant.value:>10g} {constant.unit} ({constant.source})")
    constants = {name: constant._asdict() for name, constant in CONSTANTS.items()}
    return figures | {"steps_per_second": rate} | run_figures | {"constants": constants}


def show(figures: Mapping[str, float]) -> None:
    for name, value in figures.items():
        print(
            f"  {name.replace('_', ' '):<34}{value:>14,.{0 if value >= 100 else 2 if value >= 1 or not value else 4}f}"
        )


def of_a_run(config: RunConfig, options: argparse.Namespace, steps: int) -> dict[str, float]:
    """Memory and work of a step, what it sends, and with --chip what the run takes."""
    data, fsdp = mesh_sizes(config.mesh, options.devices)
    figures, model = step_on_paper(config, options.devices)
    figures |= {f"{name.replace(' ', '_')}_MB": sent / 1e6 for name, sent in traffic(model, data, fsdp).items()}
    if not options.chip:
        return figures
    chip = CHIPS[options.chip]
    work = figures["TFLOP_per_step"] * 1e12 / options.devices / (chip.flops * options.mfu)
    exchange = exchange_seconds(model, data, fsdp, chip)
    return figures | {
        "work_ms_per_step": 1e3 * work,
        "exchange_ms_per_step": 1e3 * exchange,
        "steps_per_second_without_overlap": 1 / (work + exchange),
        "days_without_overlap": steps * (work + exchange) / 86_400,
        "days_with_full_overlap": steps * max(work, exchange) / 86_400,
    }


def on_paper(
    batch_seconds: float,
    steps: int,
    hours: float,
    devices: int,
    hosts: int,
    codec: str,
    steps_per_second: float,
    recording_seconds: float,
) -> dict[str, float]:
    """The figures, each a line of arithmetic. Bytes in GB (1e9) or MB (1e6); nothing is cropped, no store twice."""
    hour_mb = CONSTANTS[codec].value
    recordings = 3600 * hours / recording_seconds
    index_bytes = sum(kind().itemsize * math.prod(row) for kind, row in INDEX.values())
    audio_per_step = batch_seconds * (1 - CONSTANTS["padding"].value)
    steps_per_epoch = 3600 * hours / audio_per_step
    audio_per_host = audio_per_step * steps_per_second / hosts  # seconds each second
    return {
        "recordings": recordings,
        "store_GB": hours * hour_mb / 1e3,
        "index_GB": recordings * index_bytes / 1e9,
        "sharp_labels_GB": 3600 * hours * FRAME_RATE * CONSTANTS["sharp labels"].value / 1e9,
        "soft_labels_GB": 3600 * hours * FRAME_RATE * CONSTANTS["soft labels"].value / 1e9,
        "fit_on_hours": min(hours, FIT_HOURS),
        "fit_passes_over_them": FIT_PASSES,
        "label_passes_over_all": 1,
        "padded_audio_s_per_step": batch_seconds,
        "audio_s_per_step": audio_per_step,
        "padded_audio_s_per_device": batch_seconds / devices,
        "steps_per_epoch": steps_per_epoch,
        "steps": steps,
        "epochs": steps / steps_per_epoch,
        "days_at_that_step_rate": steps / steps_per_second / 86_400,
        "read_audio_s_per_s_per_host": audio_per_host,
        "read_utterances_per_s_per_host": audio_per_host / recording_seconds,
        "read_MB_per_s_per_host": audio_per_host * hour_mb / 3600,
        "reading_cores_per_host": audio_per_host / CONSTANTS[f"{codec} reader"].value,
        "plan_MB_per_reader": 3 * 4 * recordings / 1e6,
        "restore_s": recordings * CONSTANTS["restore"].value,
    }
