"""JEPA with SIGReg and without a teacher: GLaS-JEPA's conformer (8 blocks of width 576).

Paper: arXiv 2609.37798. Encoder, masks, batch and schedule are the paper's. Of its front-end we know the rates (log-mel
every 5 ms, four frames joined to one). With 32 channels in ours, all parameters are 57.4M, as in the paper. Adam's
betas, dropout, and SIGReg's directions and nodes are our choices. The paper's tables are not checked.
Time: not yet run as a whole, and no step is measured.
Launch:

    jepa-speech train --config sigreg_jepa --workdir runs/sigreg_jepa --config.data.store=STORE

These steps read 244,444 h of audio, LibriSpeech 255 times.
"""

from base import get_config as base
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = base()
    config.data.update(batch_seconds=4000.0, buckets=(5.0, 10.0, 15.6), min_seconds=2.0)
    config.encoder.update(frontend="subsampled50", channels=32, width=576, blocks=8)
    config.mask.update(ratio=(0.5, 0.5), span=(10, 10))
    config.mixing.update(utterance=0.0, noise=0.0)
    config.objective = ConfigDict(
        {"name": "sigreg_jepa", "projection": 128, "sigreg_weight": 15.0, "sigreg_directions": 1024}
    )
    config.optim.update(learning_rate=1e-4, warmup_steps=40_000, weight_decay=1e-3)
    config.train.steps = 220_000
    return config
