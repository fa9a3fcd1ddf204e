"""w2v-BERT: XL (0.6B) by default, with the variants `:xxl` (1.0B) and `:v2`, the encoder of w2v-BERT 2.0 (0.6B).

Paper: arXiv 2108.06209. Its code was never released: sizes and schedule are from memory and others' notes, and the
paper's tables are not checked. The encoder of `:v2` is that of the public `facebook/w2v-bert-2.0`.
Time: not yet run as a whole, and no step is measured.
Launch:

    jepa-speech train --config w2v_bert --workdir runs/w2v_bert --config.data.store=STORE

`:v2` with `--config.init_from=DIR` continues from the public weights. The schedule is a transformer's, with a peak of
2e-3 after 25k steps, over batches of 2048 utterances. Their length is unknown, and 24,000 s is our choice.
"""

from dataclasses import asdict

from base import get_config as base
from ml_collections import ConfigDict

from jepa_speech.errors import UsageError
from jepa_speech.nn.conformer_encoders import Wav2Vec2BertConfig


def get_config(variant: str = "xl") -> ConfigDict:
    config = base()
    config.data.batch_seconds = 24_000.0
    config.encoder.update(name="conformer", frontend="subsampled", channels=128, width=1024, blocks=24, heads=8)
    config.encoder.update(hidden=4096, kernel=5, dropout=0.1)
    config.mask.update(policy="bernoulli", probability=0.065, span=(10, 10), fill="random")
    config.mixing.update(utterance=0.0, noise=0.0)
    config.objective = ConfigDict(
        {
            "name": "w2v_bert",
            "contrastive_blocks": 12,
            "projection": 1024,
            "distractors": 100,
            "temperature": 0.1,
            "contrastive_weight": 1.0,
            "diversity_weight": 0.1,
            "prediction_weight": 1.0,
        }
    )
    config.quantizer = ConfigDict({"groups": 1, "codes": 1024, "width": 1024, "temperature": (2.0, 0.999995, 0.5)})
    config.optim.update(learning_rate=2e-3, warmup_steps=25_000, schedule="inverse_sqrt")
    config.train.steps = 400_000
    if variant == "xxl":
        config.encoder.blocks = 42
    elif variant == "v2":
        config.encoder = ConfigDict(asdict(Wav2Vec2BertConfig(dtype="bfloat16")))
        config.mask.fill = "learned"
    elif variant != "xl":
        raise UsageError(f"unknown variant {variant!r}: xl, xxl or v2")
    return config
