"""Small enough for two CPU cores: log-mel front-end, 4 transformer blocks of width 128, minutes to train.

    jepa-speech train --config configs/smoke.py --workdir runs/smoke --config.data.store=STORE \
        --config.anchor.path=GMM.npz

Variants of the same run, chosen with a colon: `configs/smoke.py:pure_jepa` (λ ≡ 0) and
`configs/smoke.py:anchor_alone` (no latent term, λ ≡ 1).
"""

from base import get_config as base
from ml_collections import ConfigDict

from jepa_speech.errors import UsageError


def get_config(variant: str = "gmm_jepa") -> ConfigDict:
    config = base()
    config.data.batch_seconds = 16.0
    config.data.buckets = (1.0, 4.0)
    config.encoder.update(name="transformer", frontend="logmel", width=128, blocks=4, heads=4, hidden=512, kernel=15)
    config.encoder.update(dropout=0.0, dtype="float32")
    config.head.update(width=256, blocks=1, dropout=0.0)
    config.mixing.update(utterance=0.0, noise=0.0)
    config.objective.visible_weight = 1.0
    config.objective.update(ema_start=0.99, ema_end=0.999)
    config.optim.update(learning_rate=1e-3, warmup_steps=60, schedule="cosine")
    config.train.update(steps=800, checkpoint_every=200, report_every=25)
    if variant == "pure_jepa":
        config.objective.update(lambda_start=0.0, lambda_end=0.0)
    elif variant == "anchor_alone":
        config.objective.update(jepa_weight=0.0, lambda_end=1.0)
    elif variant != "gmm_jepa":
        raise UsageError(f"unknown variant {variant!r}: gmm_jepa, pure_jepa or anchor_alone")
    return config
