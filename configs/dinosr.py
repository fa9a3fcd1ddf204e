"""DinoSR: the encoder and teacher of data2vec, with online codebooks in place of regression.

Paper: arXiv 2305.10005. The size is that of its released code; its tables are not checked.
Time: not yet run as a whole. One H200 trains on 5,145 s of audio per second (benchmarks/gpu_again.json),
which extrapolates to 82 h for 400,000 steps of 3,800 s.
Launch:

    jepa-speech train --config dinosr --workdir runs/dinosr --config.data.store=STORE
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
