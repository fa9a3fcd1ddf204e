"""What can be probed: a checkpoint, a baseline, or a random encoder, as features by layer."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

import jepa_speech
from jepa_speech.errors import UsageError
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.pretrained import fingerprint
from jepa_speech.pretrained.load import load_pretrained, untrained
from jepa_speech.probing.baselines import BASELINES, baseline
from jepa_speech.probing.extract import Extract, on_grid
from jepa_speech.settings.run_config import RunConfig
from jepa_speech.training.configfile import file_and_variant, load_config, own_config

WITHOUT_STEPS = (*BASELINES, "random")


class Probed(NamedTuple):
    """What is probed. Its features change only if its fingerprint does."""

    extract: Extract
    fingerprint: str
    step: int | None = None  # of a checkpoint


def probed(checkpoint: str, like: str | Path | None, seed: int) -> Probed:
    """A run folder (RUN/checkpoints/STEP, too), one of transformers, the name of a baseline, or "random".

    like: for "random", the run or config file whose architecture to take; seed: of its weights.
    """
    if checkpoint in BASELINES:
        return Probed(baseline(checkpoint), f"{checkpoint}-{jepa_speech.__version__}")
    if checkpoint == "random":
        if not like:
            raise UsageError(
                'checkpoint "random" needs like: the run, or config file, whose architecture to take (--like RUN)'
            )
        model, step = untrained(architecture(like), seed), None
    else:
        model = load_pretrained(checkpoint)
        step = model.step

    def extract(wave: np.ndarray, sample_rate: int) -> list[np.ndarray]:
        found = model.represent(wave, sample_rate)
        return on_grid(found.layers, found.frame_rate, len(wave) * SAMPLE_RATE // sample_rate)

    return Probed(extract, fingerprint.of_model(model), step)


def architecture(like: str | Path) -> RunConfig:
    """The config of a run folder, or of what `load_config` opens (configs/x.py, configs/x.py:NAME, x:NAME)."""
    file = file_and_variant(str(like))[0]
    is_config = not Path(like).is_dir() and (Path(file).suffix == ".py" or own_config(file) is not None)
    return load_config(str(like)) if is_config else load_pretrained(like).config
