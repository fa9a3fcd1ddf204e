"""PASE: SincNet, seven convolutions, 100 dimensions at 100 Hz, seven workers.

Paper: arXiv 1904.03416. The size is that of its released code; its tables are not checked.
Time: not yet run as a whole, and no step is measured.
Launch:

    jepa-speech train --config pase --workdir runs/pase --config.data.store=STORE

Encoder 5.82M parameters. Batches of 32 chunks of 1 s, Adam at 5e-4, as in the released code. Its 150 epochs of 15 s of
each LibriSpeech speaker (10 h; from memory of the paper) are some 170,000 steps. The learning rate falls linearly,
where the authors halve it every 30 epochs.
"""

from base import get_config as base
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = base()
    config.data.update(batch_seconds=32.0, buckets=(1.0,))
    config.encoder = ConfigDict(
        {
            "name": "pase",
            "maps": (64, 64, 128, 128, 256, 256, 512, 512),
            "embedding": 100,
            "recurrent": 0,
            "dense": False,
            "dtype": "float32",
        }
    )
    config.mixing = ConfigDict(
        {"reverb": 0.0, "voice": 0.0, "noise": 0.0, "clip": 0.0, "chop": 0.0, "downsample": 0.0, "band_drop": 0.0}
    )
    config.objective = ConfigDict(
        {
            "name": "pase",
            "workers": ("waveform", "lps", "mfcc", "prosody", "lim", "gim", "spc"),
            "deltas": False,
            "frames": 1,
            "swapped": False,
            "hidden": 256,
            "decoder": (512, 256, 128),
            "worker_rate": 1.0,
        }
    )
    config.optim.update(learning_rate=5e-4, warmup_steps=0, schedule="linear")
    config.optim.update(betas=(0.9, 0.999), epsilon=1e-8, weight_decay=0.0, clip=0.0)
    config.train.steps = 170_000
    return config


def small(config: ConfigDict) -> None:
    """A quarter of the maps, or less: minutes on two CPU cores. For configs/smoke.py, of PASE+ as well."""
    config.data.update(batch_seconds=8.0, buckets=(1.0,))
    config.encoder = get_config().encoder
    config.encoder.maps = (16, 16, 32, 32, 64, 64, 128, 128)
    config.objective.update(hidden=128, decoder=(64, 32, 16), worker_rate=1.0)
    config.optim.update(learning_rate=1e-3, warmup_steps=20, hold_steps=0, schedule="linear", clip=0.0)
    config.train.update(steps=300, checkpoint_every=100, report_every=25)
