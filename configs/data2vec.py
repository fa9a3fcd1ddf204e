"""data2vec for audio, Base.

Paper: arXiv 2202.03555. The size is that of its released code (fairseq); its tables are not checked.
Time: not yet run as a whole, and no step is measured.
Launch:

    jepa-speech train --config data2vec --workdir runs/data2vec --config.data.store=STORE
"""

from base import get_config as base
from hubert import wav2vec2_encoder
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = base()
    config.data.batch_seconds = 3800.0
    config.encoder = ConfigDict(wav2vec2_encoder())
    config.encoder.update(norm="layer", positions="stacked", position_kernel=95, gradient_scale=1.0)
    config.encoder.update(input_dropout=0.0, feature_dropout=0.0)
    config.mask.update(policy="spans", probability=0.65, span=(10, 10), min_spans=1)
    config.mixing.update(utterance=0.0, noise=0.0)
    teacher = {"top_blocks": 8, "ema_start": 0.999, "ema_end": 0.9999, "ema_steps": 30_000, "freeze_teacher_at": 0}
    config.objective = ConfigDict({"name": "data2vec"} | teacher)
    # Three stages: 3% warm-up, 90% at the peak, 7% down to a hundredth of it.
    config.optim.update(warmup_steps=12_000, hold_steps=360_000, schedule="exponential", clip=0.0)
    config.train.steps = 400_000
    return config
