"""Pure JEPA: GMM-anchored JEPA with λ ≡ 0, so without an anchor or a cluster head (the paper's ablation).

Paper: arXiv 2602.09040 (only abstract and introduction were available). The size is that of `gmm_jepa`; the paper's
tables are not checked.
Time: not yet run as a whole, and no step is measured.
Launch:

    jepa-speech train --config pure_jepa --workdir runs/pure_jepa --config.data.store=STORE
"""

from base import get_config as base
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = base()
    config.objective.lambda_start = 0.0
    config.objective.lambda_end = 0.0
    return config
