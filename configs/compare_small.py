"""Objectives on one small encoder, for `jepa-speech compare`: on two CPU cores that other work shared for half of the
time, an hour (benchmarks/compare_small/).

    jepa-speech compare --config configs/compare_small.py \
        --objectives gmm_jepa,gmm_jepa_as_released,pure_jepa,wavlm,hubert --input SPEECH/large/pretrain.manifest.jsonl \
        --data SPEECH/librispeech:phones,speaker --budget 800 --seeds 3 --out runs/compare_small

All have the encoder, the batches and the learning rate of configs/smoke.py's gmm_jepa, and masks of their own.
`gmm_jepa_as_released` masks frames after the encoder, which therefore sees all of them, and its cluster head reads what
nothing is hidden from, as in the paper's released code. `wavlm` is WavLM in style: HuBERT's objective on mixed
utterances, without its position bias. `anchor_alone_kmeans` and `hubert_gmm` have each other's labels: the hard ones of
k-means, and the mixture's most likely component.
"""

from ml_collections import ConfigDict
from smoke import get_config as smoke
from wavlm import get_config as wavlm

MIXTURE = ("gmm", "--components", "256", "--features", "mfcc", "--normalize", "mean")
KMEANS = ("kmeans", "--components", "256", "--features", "mfcc100", "--normalize", "mean", "--standardize")
ANCHORS = {  # arguments of `jepa-speech fit` for each objective
    "gmm_jepa": MIXTURE,
    "gmm_jepa_as_released": MIXTURE,
    "pure_jepa": (),
    "anchor_alone": MIXTURE,
    "anchor_alone_kmeans": KMEANS,
    "gmm_jepa_sigreg": MIXTURE,
    "sigreg_jepa": (),
    "wavlm": KMEANS,
    "hubert": KMEANS,
    "hubert_gmm": MIXTURE,
    "wav2vec2": (),
    "data2vec": (),
    "data2vec2": (),
    "dinosr": (),
    "s_jepa": (),
    "best_rq": (),
}
OF_SMOKE = {
    "gmm_jepa_as_released": "gmm_jepa",
    "anchor_alone_kmeans": "anchor_alone",
    "wavlm": "hubert",
    "hubert_gmm": "hubert",
}


def get_config(variant: str = "gmm_jepa") -> ConfigDict:
    config, same = smoke(OF_SMOKE.get(variant, variant)), smoke("gmm_jepa")
    config.encoder, config.data, config.optim, config.train = same.encoder, same.data, same.optim, same.train
    if variant == "gmm_jepa_as_released":
        config.mask.site = "pre_predictor"
    if variant == "wavlm":
        config.mixing = wavlm().mixing
    return config
