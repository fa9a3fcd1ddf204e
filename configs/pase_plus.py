"""PASE+: PASE with a QRNN, dense skips, 256 dimensions and distorted input.

Paper: arXiv 2001.09239. The size is that of its released code; its tables are not checked.
Time: not yet run as a whole, and no step is measured.
Launch:

    jepa-speech train --config pase_plus --workdir runs/pase_plus --config.data.store=STORE

Encoder 7.83M parameters. The workers regress seven frames of targets with deltas, over short and long windows; there is
no sequence worker. Batches of 16 chunks of 2 s, 400 epochs of 50 h of LibriSpeech, some 2.2 million steps; encoder at
1e-3, workers at half of that, falling to 0 linearly (the authors' power is 0.9). Published on SUPERB: phone error
58.87, keywords 82.54, speakers 37.99, emotion 57.86.
"""

from ml_collections import ConfigDict
from pase import get_config as pase
from pase import small as small_pase


def get_config() -> ConfigDict:
    config = pase()
    config.data.update(batch_seconds=32.0, buckets=(2.0,))
    config.encoder.update(embedding=256, recurrent=512, dense=True)
    config.mixing.update(reverb=0.5, voice=0.1, noise=0.4, clip=0.2, chop=0.2, downsample=0.25, band_drop=0.35)
    short = ("lps", "fbank", "gammatone", "mfcc13", "prosody")
    long = ("lps_long", "fbank_long", "gammatone_long", "mfcc_long")
    config.objective.update(workers=("waveform", *short, *long, "lim", "gim"))
    config.objective.update(deltas=True, frames=7, swapped=True, worker_rate=0.5)
    config.optim.learning_rate = 1e-3
    config.train.steps = 2_200_000
    return config


def small(config: ConfigDict) -> None:
    """PASE's, with a narrow QRNN and dense skips. For configs/smoke.py."""
    small_pase(config)
    config.encoder.update(embedding=100, recurrent=64, dense=True)
    config.objective.hidden = 64
