"""DinoSR (arXiv 2305.10005, section 3.1): data2vec's chassis, online codebooks in place of regression.

jepa-speech train --config configs/dinosr.py --workdir runs/dinosr --config.data.store=STORE
"""

from data2vec import get_config as data2vec
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = data2vec()
    config.mask.probability = 0.8
    config.objective.update(name="dinosr", freeze_teacher_at=200_000)
    config.objective.update({"codes": 256, "code_decay": 0.9, "freeze_frontend_at": 0})
    # Three stages: 3% warm-up, 47% at the peak, 50% down to a hundredth of it.
    config.optim.update(warmup_steps=12_000, hold_steps=188_000)
    return config
