"""Estimates of what a corpus and a run on it cost: bytes, passes, read rates, days at a step rate."""

import math
from typing import NamedTuple

from jepa_speech.features.grid import FRAME_RATE
from jepa_speech.store.description import INDEX

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


def corpus_on_paper(
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
