"""WavLM (arXiv 2110.13900): HuBERT with a gated relative position bias and other voices over what the student hears.

    jepa-speech train --config configs/wavlm.py --workdir runs/wavlm --config.data.store=STORE \
        --config.anchor.path=KMEANS.npz

`configs/wavlm.py:large` is Large. KMEANS.npz as in the second iteration of HuBERT.
"""

from hubert import get_config as hubert
from ml_collections import ConfigDict


def get_config(variant: str = "base") -> ConfigDict:
    config = hubert(variant)
    config.encoder.update(relative_bias=True, relative_buckets=320, relative_distance=800)
    config.mixing.update(utterance=0.1, noise=0.1)
    return config
