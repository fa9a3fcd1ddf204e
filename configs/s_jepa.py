"""S-JEPA's phase 2: an online mixture on a layer of the EMA teacher. Phase 1 is `:phase1`, a frozen mixture of MFCC.

Paper: arXiv 2606.19398, table of its hyperparameters; its tables are not checked. The encoder is HuBERT Base with 6
blocks. Steps, warm-up and schedule are ours, since the paper gives none. Other differences: the blocks of the head;
masked frames get a learned vector, not 0; posteriors of 16 components and a rest, where the paper predicts all 500;
ranks and seeding on 8,192 recent frames, where it takes 2,000 and a larger sample; in phase 1 the head reads the
encoder, not a predictor. The paper turns off mixing and the loss on visible frames partway through phase 2. Here both
are off from its start.
Time: not yet run as a whole, and no step is measured.
Launch:

    jepa-speech train --config s_jepa --workdir runs/phase2 --config.data.store=STORE --config.init_from=runs/phase1

Phase 1 before it, on labels of 100 components (`jepa-speech fit gmm --features mfcc --components 100`):

    jepa-speech train --config s_jepa:phase1 --workdir runs/phase1 --config.data.store=STORE --config.anchor.path=A.npz
"""

from base import get_config as base
from hubert import wav2vec2_encoder
from ml_collections import ConfigDict

from jepa_speech.errors import UsageError


def get_config(variant: str = "phase2") -> ConfigDict:
    if variant not in ("phase1", "phase2"):
        raise UsageError(f"unknown variant {variant!r}: phase1 or phase2")
    config = base()
    config.data.update(batch_seconds=2880.0)
    config.encoder = ConfigDict(wav2vec2_encoder())
    config.encoder.update(blocks=6, activation_dropout=0.1)
    config.head.update(width=768, blocks=1)
    config.mask.update(ratio=(0.65, 0.65), span=(10, 10))
    config.optim.update(betas=(0.9, 0.99), weight_decay=1e-3, schedule="constant")
    config.train.steps = 100_000
    if variant == "phase1":
        config.objective.update(jepa_weight=0.0, lambda_end=1.0, visible_weight=1.0)
        config.optim.learning_rate = 1e-4
        return config
    config.mixing.update(utterance=0.0, noise=0.0)
    config.objective = ConfigDict(
        {
            "name": "s_jepa",
            "components": 500,
            "mixture_update": "parameters",
            "mixture_decay": 0.999,
            "layer_every": 10_000,
            "reservoir": 8192,
            "top_k": 16,
            "visible_weight": 0.0,
            "predictor_blocks": 1,
            "ema_fast": 0.999,
            "ema_slow": 0.9999,
            "ema_every": 20_000,
        }
    )
    config.optim.learning_rate = 2.5e-5
    return config
