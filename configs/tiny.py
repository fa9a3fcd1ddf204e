"""Trains in seconds and learns next to nothing: to try an installation, a cluster, what a kill leaves behind.

    jepa-speech train --config configs/tiny.py --workdir runs/tiny --config.data.store=S --config.anchor.path=GMM.npz

Every objective of `configs/smoke.py`, behind a colon, on one block of width 16 (w2v-BERT has two), with dropout and
mixing, in two buckets. Label with `--top-k 4` or more.
"""

from ml_collections import ConfigDict
from smoke import VARIANTS
from smoke import get_config as smoke

__all__ = ["VARIANTS", "get_config"]

TINY = {  # each where a variant has such a key
    "data": {"buckets": (0.5, 1.0), "batch_seconds": 2.0},
    "anchor": {"top_k": 4},
    "encoder": {
        "width": 16,
        "blocks": 1,
        "heads": 2,
        "hidden": 16,
        "dropout": 0.1,
        "maps": (6, 6, 8, 8, 8, 8, 12, 12),
        "embedding": 10,
    },
    "head": {"width": 8},
    "mask": {"span": (3, 3)},
    "mixing": {"utterance": 0.3, "noise": 0.3},
    "objective": {
        "projection": 8,
        "distractors": 3,
        "top_blocks": 1,
        "contrastive_blocks": 1,
        "codes": 8,
        "components": 8,
        "reservoir": 128,
        "layer_every": 8,
        "masks": 2,
        "decoder_width": 16,
        "decoder_kernel": 3,
        "books": 2,
        "hidden": 24,
        "decoder": (8, 8, 8),
    },
    "quantizer": {"codes": 8, "width": 8},
    "optim": {"warmup_steps": 5},
    "train": {"steps": 60, "checkpoint_every": 4, "report_every": 7},
}


def get_config(variant: str = "gmm_jepa") -> ConfigDict:
    config = smoke(variant)
    for section, values in TINY.items():
        present = config.get(section, {})
        present.update({key: value for key, value in values.items() if key in present})
    if "contrastive_blocks" in config.objective:
        config.encoder.blocks = 2  # the other one predicts
    return config
