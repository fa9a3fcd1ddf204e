"""Pure JEPA: GMM-anchored JEPA with λ ≡ 0, so without an anchor or a cluster head (the paper's ablation).

jepa-speech train --config configs/pure_jepa.py --workdir runs/pure_jepa --config.data.store=STORE
"""

from base import get_config as base
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = base()
    config.objective.lambda_start = 0.0
    config.objective.lambda_end = 0.0
    return config
