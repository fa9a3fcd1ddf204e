"""wav2vec 2.0: Base by default, with the variants `:large` and `:conformer`.

Paper: arXiv 2006.11477. Sizes are those of its released code (fairseq), and `:conformer` that of the public
`facebook/wav2vec2-conformer-rel-pos-large` (`--config.encoder.positions=rotary`: `-rope-large`). Sources disagree about
the schedule of Large, which has Base's steps and batch here; the paper's tables are not checked.
Time: not yet run as a whole. One H200 trains on 6,141 s of audio per second (benchmarks/gpu.json),
which extrapolates to 101 h for 400,000 steps of 5,600 s. The variants are not measured.
Launch:

    jepa-speech train --config wav2vec2 --workdir runs/wav2vec2 --config.data.store=STORE

`--config.init_from=DIR` continues from an imported run, or from the folder of a model that transformers wrote.
"""

from dataclasses import asdict

from base import get_config as base
from hubert import large, wav2vec2_encoder
from ml_collections import ConfigDict

from jepa_speech.errors import UsageError
from jepa_speech.nn.conformer_encoders import Wav2Vec2ConformerConfig


def get_config(variant: str = "base") -> ConfigDict:
    config = base()
    config.data.batch_seconds = 5600.0
    config.encoder = ConfigDict(wav2vec2_encoder())
    config.mask.update(policy="spans", probability=0.65, span=(10, 10))
    config.mixing.update(utterance=0.0, noise=0.0)
    config.objective = ConfigDict(
        {
            "name": "wav2vec2",
            "projection": 256,
            "distractors": 100,
            "temperature": 0.1,
            "diversity_weight": 0.1,
            "feature_penalty": 10.0,
        }
    )
    config.quantizer = ConfigDict({"groups": 2, "codes": 320, "width": 256, "temperature": (2.0, 0.999995, 0.5)})
    config.optim.update(learning_rate=5e-4, warmup_steps=32_000, schedule="linear", clip=0.0)
    config.train.steps = 400_000
    if variant in ("large", "conformer"):
        large(config)
        config.objective.update(projection=768, feature_penalty=0.0)
        config.quantizer.update(width=768, temperature=(2.0, 0.999995, 0.1))
        config.optim.learning_rate = 3e-4
    elif variant != "base":
        raise UsageError(f"unknown variant {variant!r}: base, large or conformer")
    if variant == "conformer":
        config.encoder = ConfigDict(asdict(Wav2Vec2ConformerConfig(dtype="bfloat16")))
    return config
