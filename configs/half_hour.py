"""GMM-anchored JEPA at the published size, and WavLM in style on the same encoder, for `benchmarks/half_hour.py`.

    python benchmarks/half_hour.py --data SPEECH --work runs/half_hour

Not yet run as a whole. Both have the encoder, the batches and the optimiser of configs/gmm_jepa.py, and as there, 8% of
the steps are warm-up. `wavlm` is HuBERT's objective on mixed utterances, without WavLM's position bias. Its k-means has
as many classes as the mixture has components.
"""

from base import get_config as base
from ml_collections import ConfigDict
from wavlm import get_config as wavlm

from jepa_speech.errors import UsageError

ANCHORS = {  # arguments of `jepa-speech fit` for each objective
    "gmm_jepa": ("gmm", "--components", "1024", "--features", "mfcc", "--normalize", "mean"),
    "wavlm": ("kmeans", "--components", "1024", "--features", "mfcc100", "--normalize", "mean", "--standardize"),
}


def get_config(variant: str = "gmm_jepa") -> ConfigDict:
    if variant not in ANCHORS:
        raise UsageError(f"unknown variant {variant!r}: {', '.join(ANCHORS)}")
    config, same = base() if variant == "gmm_jepa" else wavlm(), base()
    config.encoder, config.data, config.optim, config.train = same.encoder, same.data, same.optim, same.train
    config.train.steps = 6750
    config.optim.warmup_steps = config.train.get_ref("steps") * 2 // 25
    return config
