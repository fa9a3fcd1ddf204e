"""WavLM: HuBERT with a gated relative position bias, and other voices and noise mixed into the student's input.

Paper: arXiv 2110.13900. The size is that of its released code (unilm), `:large` for Large. Steps, batch and mixing are
from memory of the paper; its tables are not checked. Large has HuBERT Large's schedule.
Time: not yet run as a whole. One H200 trains on 5,456 s of audio per second (benchmarks/gpu.json),
which extrapolates to 57 h for 400,000 steps of 2,800 s. The variants are not measured.
Launch:

    jepa-speech train --config wavlm --workdir runs/wavlm --config.data.store=STORE --config.anchor.path=KMEANS.npz

KMEANS.npz is that of HuBERT's second iteration (configs/hubert.py).
"""

from hubert import get_config as hubert
from ml_collections import ConfigDict


def get_config(variant: str = "base") -> ConfigDict:
    config = hubert(variant)
    config.encoder.update(relative_bias=True, relative_buckets=320, relative_distance=800)
    config.mixing.update(utterance=0.1, noise=0.1)
    return config
