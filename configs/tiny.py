"""Trains in seconds and learns next to nothing: to try an installation, a cluster, what a kill leaves behind.

    jepa-speech train --config configs/tiny.py --workdir runs/tiny --config.data.store=S --config.anchor.path=GMM.npz

The objective of `configs/smoke.py` that stands behind a colon, one of VARIANTS, on a block of width 16, with dropout
and mixing, in two buckets. Label with `--top-k 4` or more.
"""

from ml_collections import ConfigDict
from smoke import get_config as smoke

from jepa_speech.errors import UsageError

VARIANTS = ("gmm_jepa", "pure_jepa", "anchor_alone", "hubert", "data2vec")  # those that have the encoder of smoke.py


def get_config(variant: str = "gmm_jepa") -> ConfigDict:
    if variant not in VARIANTS:
        raise UsageError(f"unknown variant {variant!r}: {', '.join(VARIANTS)}")
    config = smoke(variant)
    config.data.update(buckets=(0.5, 1.0), batch_seconds=2.0)
    config.anchor.top_k = 4
    config.encoder.update(width=16, blocks=1, heads=2, hidden=16, dropout=0.1)
    config.head.width = 8
    config.mask.span = (2, 4) if config.mask.policy == "exact" else (3, 3)
    config.mixing.update(utterance=0.3, noise=0.3)
    config.optim.warmup_steps = 5
    config.train.update(steps=60, checkpoint_every=4, report_every=7)
    if "top_blocks" in config.objective:
        config.objective.top_blocks = 1
    return config
