"""HuBERT: Base by default, with the variants `:large` and `:xlarge`.

Paper: arXiv 2106.07447. Sizes and schedules are those of its released code (fairseq), except that `:xlarge` has
the batch of Large, 7,200 s, not 5,760 s. The paper's tables are not checked.
Time: not yet run as a whole. One H200 trains on 6,485 s of audio per second (benchmarks/gpu_again.json),
which extrapolates to 48 h for 400,000 steps of 2,800 s. The variants are not measured.
Launch:

    jepa-speech train --config hubert --workdir runs/hubert --config.data.store=STORE --config.anchor.path=KMEANS.npz

KMEANS.npz holds 100 clusters of MFCC (`jepa-speech fit kmeans --features mfcc100`), and in the second iteration 500 of
the first one's layer 6 (`--features layer:6 --checkpoint runs/hubert --components 500`).
"""

from base import get_config as base
from ml_collections import ConfigDict

from jepa_speech.errors import UsageError


def get_config(variant: str = "base") -> ConfigDict:
    config = base()
    config.data.batch_seconds = 2800.0
    config.encoder = ConfigDict(wav2vec2_encoder())
    config.mask.update(policy="spans", probability=0.8, span=(10, 10))
    config.mixing.update(utterance=0.0, noise=0.0)
    config.objective = ConfigDict(
        {
            "name": "hubert",
            "projection": 256,
            "temperature": 0.1,
            "visible_weight": 0.0,
            "feature_penalty": 10.0,
        }
    )
    config.optim.update(learning_rate=5e-4, warmup_steps=32_000, schedule="linear", clip=10.0)
    config.train.steps = 400_000
    if variant in ("large", "xlarge"):
        large(config)
        config.objective.projection = 768
        config.data.batch_seconds = 7200.0
        config.optim.update(learning_rate=1.5e-3, clip=1.0)
    if variant == "xlarge":
        config.encoder.update(width=1280, blocks=48, hidden=5120)
        config.objective.projection = 1024
        config.optim.learning_rate = 3e-3
    if variant not in ("base", "large", "xlarge"):
        raise UsageError(f"unknown variant {variant!r}: base, large or xlarge")
    return config


def wav2vec2_encoder() -> dict:
    """The encoder of wav2vec 2.0 Base and HuBERT Base; what it leaves open has the defaults of nn/wav2vec2.py."""
    return {
        "name": "wav2vec2",
        "frontend": "conv",
        "norm": "group",
        "conv_bias": False,
        "feature_norm": True,
        "channels": 512,
        "width": 768,
        "blocks": 12,
        "heads": 12,
        "hidden": 3072,
        "pre_norm": False,
        "epsilon": 1e-5,
        "positions": "conv",
        "position_kernel": 128,
        "position_groups": 16,
        "position_depth": 5,
        "relative_bias": False,
        "dropout": 0.1,
        "attention_dropout": 0.1,
        "activation_dropout": 0.0,
        "input_dropout": 0.1,
        "feature_dropout": 0.1,
        "layerdrop": 0.05,
        "gradient_scale": 0.1,
        "dtype": "bfloat16",
        "scan": False,
        "remat": False,
    }


def large(config: ConfigDict) -> None:
    """The encoder of the Large models: 24 pre-norm blocks of width 1024, layer norm in the front-end."""
    config.encoder.update(norm="layer", conv_bias=True, width=1024, blocks=24, heads=16, hidden=4096, pre_norm=True)
    config.encoder.update(dropout=0.0, attention_dropout=0.0, input_dropout=0.0, feature_dropout=0.0, layerdrop=0.0)
    config.encoder.gradient_scale = 1.0
