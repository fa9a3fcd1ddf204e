"""`jepa-speech plan`: what a corpus will cost, on paper, before anything is copied."""

import argparse
import math
from typing import Any, NamedTuple

from jepa_speech.config import from_section
from jepa_speech.data.plan import DataConfig
from jepa_speech.data.store import INDEX
from jepa_speech.errors import UsageError
from jepa_speech.features.grid import FRAME_RATE
from jepa_speech.train.configfile import load_config
from jepa_speech.train.loop import TrainConfig

HELP = "on paper: bytes, passes, steps and read rates of a corpus of so many hours"
EXAMPLE = "jepa-speech plan --config configs/gmm_jepa.py --hours 100000 --devices 64"
DEVICES_PER_HOST = 8
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
    "labels": Measured(
        1.85, "bytes per frame and component kept", "data/label_codec.py: 16 of 1,024, simulated at perplexity 4"
    ),
    "flac reader": Measured(2000.0, "audio-s per s of a core", "docs/scale.md: reading, cropping, padding"),
    "pcm16 reader": Measured(10_000.0, "audio-s per s of a core", "docs/scale.md: reading, cropping, padding"),
    "restore": Measured(0.13e-6, "s per recording", "docs/scale.md: 3.2 s for 25 million"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, metavar="FILE[:VARIANT]", help="such as configs/gmm_jepa.py")
    parser.add_argument("--hours", type=float, required=True, metavar="H", help="of audio in the corpus")
    parser.add_argument("--devices", type=int, required=True, metavar="D", help="accelerators, over all hosts")
    parser.add_argument("--hosts", type=int, metavar="N", help=f"default: one for {DEVICES_PER_HOST} devices")
    parser.add_argument("--codec", choices=("flac", "pcm16"), default="flac")
    parser.add_argument(
        "--steps-per-second", type=float, default=1.0, metavar="R", help="that the accelerators make (default: 1)"
    )
    parser.add_argument(
        "--recording-seconds",
        type=float,
        default=CONSTANTS["recording"].value,
        metavar="S",
        help=f"mean length of a recording (default: {CONSTANTS['recording'].value}, as in LibriSpeech)",
    )
    parser.description += "; --config.KEY=VALUE changes a key of the config"


def run(options: argparse.Namespace) -> dict[str, Any]:
    hosts = options.hosts or math.ceil(options.devices / DEVICES_PER_HOST)
    for name in ("hours", "devices", "steps_per_second", "recording_seconds"):
        if not 0 < getattr(options, name) < math.inf:
            raise UsageError(f"--{name.replace('_', '-')} {getattr(options, name):g}: choose one above 0")
    if hosts < 1 or options.devices % hosts:
        raise UsageError(f"{options.devices} devices on {hosts} hosts: as many on each needed; pass --hosts")
    config = load_config(options.config, options.overrides)
    figures = on_paper(
        batch_seconds=from_section(DataConfig, config.data, "data").batch_seconds,
        steps=from_section(TrainConfig, config.train, "train").steps,
        hours=options.hours,
        devices=options.devices,
        hosts=hosts,
        codec=options.codec,
        kept=config.anchor.top_k,
        steps_per_second=options.steps_per_second,
        recording_seconds=options.recording_seconds,
    )
    print(f"{options.config}, {options.hours:g} h, {options.devices} devices on {hosts} hosts, {options.codec}")
    for name, value in figures.items():
        print(f"  {name.replace('_', ' '):<34}{value:>14,.{0 if value >= 100 else 2}f}")
    print("reckoned from these, which were measured:")
    for name, constant in CONSTANTS.items():
        print(f"  {name:<14}{constant.value:>10g} {constant.unit} ({constant.source})")
    return figures | {"constants": {name: constant._asdict() for name, constant in CONSTANTS.items()}}


def on_paper(
    batch_seconds: float,
    steps: int,
    hours: float,
    devices: int,
    hosts: int,
    codec: str,
    kept: int,
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
        "labels_GB": 3600 * hours * FRAME_RATE * kept * CONSTANTS["labels"].value / 1e9,
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
