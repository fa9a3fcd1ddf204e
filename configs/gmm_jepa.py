"""GMM-anchored JEPA, clean wiring, at the size of arXiv 2602.09040: 4 conformer blocks, width 512, K = 1024.

    jepa-speech train --config configs/gmm_jepa.py --workdir runs/gmm_jepa --config.data.store=STORE \
        --config.anchor.path=GMM.npz
"""

from base import get_config as base
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return base()
