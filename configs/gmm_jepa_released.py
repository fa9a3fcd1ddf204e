"""GMM-anchored JEPA as its public code wires and trains it, for comparison: no frame is hidden from its encoder.

Paper: arXiv 2602.09040 (only abstract and introduction were available). The size is that of its released code; its
tables are not checked.
Time: not yet run as a whole, and no step is measured.
Launch:

    jepa-speech train --config gmm_jepa_released --workdir runs/released --config.data.store=STORE \
        --config.anchor.path=GMM.npz

The encoder sees the masked frames, so the JEPA and cluster losses can be low without any prediction. Published results
after 50 kh: ASR WER 28.68, emotion 67.76, slot filling F1 64.7.

Online model 46.59M parameters (46.58M where encoder and predictor share one relative-position table, as in the
public code), encoder 32.12M. The public model class has relative positions on and adaptive attention off; its
training script turns both off unless asked. Differences that remain here: a teacher without dropout, in float32, whose
targets are layer-normalised; audio at level 1; labels on the frame grid.
"""

from base import get_config as base
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = base()
    config.encoder = ConfigDict(
        {
            "name": "released_conformer",
            "channels": (32, 64, 128, 256),
            "strides": (8, 8, 5),
            "width": 512,
            "res_blocks": 4,
            "blocks": 4,
            "heads": 32,
            "dropout": 0.1,
            "relative_positions": True,
            "adaptive_attention": False,
        }
    )
    del config.head  # fixed by the release, as the one block of its predictor is
    config.mask.site = "pre_predictor"
    config.objective.ema_end = config.objective.ema_start
    config.optim = ConfigDict(
        {
            "learning_rate": 1e-5,
            "warmup_steps": 0,
            "schedule": "constant",
            "betas": (0.8, 0.99),
            "epsilon": 1e-8,
            "weight_decay": 1e-3,
            "clip": 1.0,
        }
    )
    return config
