"""BEST-RQ: the paper's conformer (0.6B) by default, with the variant `:base` for one GPU (92M).

Paper: arXiv 2202.01855. Its code was never released: the encoder is that of w2v-BERT XL, as the paper says, and the
public BEST-RQ encoder of arXiv 2412.11538 has the same sizes. The schedule is from others' notes, and the paper's
tables are not checked. `:base` has the sizes, the batch and the learning rate of SpeechBrain's recipe (arXiv
2405.04296), with the paper's mask.
Time: not yet run as a whole, and no step is measured.
Launch:

    jepa-speech train --config best_rq --workdir runs/best_rq --config.data.store=STORE

The mask covers 33% of the frames: a span of 400 ms starts at each frame of 40 ms with the probability that one of its
four log-mel frames starts one at 0.01 each. A batch has 2048 utterances; their length is unknown, and 24,000 s is our
choice. `--config.objective.books=16` is the number of codebooks of USM.
"""

from base import get_config as base
from ml_collections import ConfigDict
from w2v_bert import get_config as w2v_bert

from jepa_speech.errors import UsageError


def get_config(variant: str = "xl") -> ConfigDict:
    config = base()
    config.data.batch_seconds = 24_000.0
    config.encoder = w2v_bert().encoder
    config.mask.update(policy="bernoulli", probability=0.0394, span=(10, 10), fill="noise")
    config.mixing.update(utterance=0.0, noise=0.0)
    config.objective = ConfigDict({"name": "best_rq", "books": 1, "codes": 8192, "code_width": 16})
    config.optim.update(learning_rate=4e-3, warmup_steps=25_000, schedule="inverse_sqrt")
    config.train.steps = 400_000
    if variant == "base":
        config.data.batch_seconds = 7200.0
        config.encoder.update(channels=128, width=576, blocks=12, heads=8, hidden=2048, kernel=31)
        config.optim.learning_rate = 8e-4
        config.train.steps = 300_000
    elif variant != "xl":
        raise UsageError(f"unknown variant {variant!r}: xl or base")
    return config
