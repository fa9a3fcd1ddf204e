"""GMM-anchored JEPA at the published size, with frames masked before the encoder.

Paper: arXiv 2602.09040 (only abstract and introduction were available). Blocks (4 conformers), width (512) and
components (K = 1024) are those of its released code; front-end, heads and schedule are not. The tables are not checked.
Time: not yet run as a whole. One H200 trains on 7,177 s of audio per second (benchmarks/gpu_again.json),
which extrapolates to 56 min for 50,000 steps of 480 s.
Launch:

    jepa-speech train --config gmm_jepa --workdir runs/gmm_jepa --config.data.store=STORE --config.anchor.path=GMM.npz

These steps read 6,667 h of audio; the paper reports about 50,000 h.
"""

from base import get_config as base
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return base()
