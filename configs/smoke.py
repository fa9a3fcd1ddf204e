"""Small enough for two CPU cores: log-mel front-end, 4 transformer blocks of width 128, minutes to train.

    jepa-speech train --config configs/smoke.py --workdir runs/smoke --config.data.store=STORE \
        --config.anchor.path=GMM.npz

Every objective on the same small encoder, chosen with a colon: `configs/smoke.py:hubert`, `:wav2vec2`, `:data2vec`,
`:data2vec2`, `:dinosr`, `:best_rq`, `:sigreg_jepa`, `:pure_jepa` (λ ≡ 0), `:anchor_alone` (no latent term, λ ≡ 1),
`:gmm_jepa_sigreg` (with SIGReg), `:s_jepa` (phase 2 alone, from scratch, unless `--config.init_from` names a run of
`:anchor_alone`). Three have encoders of their own: `:wavlm` the published blocks, whose bias it is about, `:w2v_bert` a
front-end at 25 Hz, `:pase` and `:pase_plus` convolutions. gmm_jepa, gmm_jepa_sigreg, anchor_alone, hubert and wavlm
need an anchor.
"""

from base import get_config as base
from best_rq import get_config as best_rq
from data2vec import get_config as data2vec
from data2vec2 import get_config as data2vec2
from dinosr import get_config as dinosr
from hubert import get_config as hubert
from ml_collections import ConfigDict
from pase import get_config as pase
from pase import small as pase_small
from pase_plus import get_config as pase_plus
from pase_plus import small as pase_plus_small
from s_jepa import get_config as s_jepa
from sigreg_jepa import get_config as sigreg_jepa
from w2v_bert import get_config as w2v_bert
from wav2vec2 import get_config as wav2vec2
from wavlm import get_config as wavlm

from jepa_speech.errors import UsageError


def get_config(variant: str = "gmm_jepa") -> ConfigDict:
    if variant not in VARIANTS:
        raise UsageError(f"unknown variant {variant!r}: {', '.join(VARIANTS)}")
    published, shrink = VARIANTS[variant]
    config = published()
    small(config)
    shrink(config)
    return config


def small(config: ConfigDict) -> None:
    """The shared part: encoder, batches, learning rate, number of steps."""
    config.data.batch_seconds = 16.0
    config.data.buckets = (1.0, 4.0)
    config.encoder = ConfigDict(base().encoder)
    config.encoder.update(name="transformer", frontend="logmel", width=128, blocks=4, heads=4, hidden=512, kernel=15)
    config.encoder.update(dropout=0.0, dtype="float32")
    config.head.update(width=256, blocks=1, dropout=0.0)
    config.optim.update(learning_rate=1e-3, warmup_steps=60, hold_steps=0, schedule="cosine", clip=1.0)
    config.train.update(steps=800, checkpoint_every=200, report_every=25)


def gmm_jepa(config: ConfigDict) -> None:
    config.mixing.update(utterance=0.0, noise=0.0)
    config.objective.update(visible_weight=1.0, ema_start=0.99, ema_end=0.999)


def pure_jepa(config: ConfigDict) -> None:
    gmm_jepa(config)
    config.objective.update(lambda_start=0.0, lambda_end=0.0)


def anchor_alone(config: ConfigDict) -> None:
    gmm_jepa(config)
    config.objective.update(jepa_weight=0.0, lambda_end=1.0)


def gmm_jepa_sigreg(config: ConfigDict) -> None:
    gmm_jepa(config)
    config.objective.update(sigreg_weight=5.0, sigreg_directions=256)


def sigreg_jepa_small(config: ConfigDict) -> None:
    config.data.min_seconds = 0.0
    config.objective.update(projection=64, sigreg_directions=256)
    config.optim.weight_decay = base().optim.weight_decay


def hubert_small(config: ConfigDict) -> None:
    config.objective.update(projection=64, visible_weight=1.0, feature_penalty=0.0)
    config.train.steps = 1600  # a step costs two thirds of one with a teacher


def wavlm_small(config: ConfigDict) -> None:
    hubert_small(config)
    config.encoder = ConfigDict(wavlm().encoder)
    config.encoder.update(frontend="logmel", width=128, blocks=4, heads=4, hidden=512)
    config.encoder.update(position_kernel=16, position_groups=4, layerdrop=0.0, gradient_scale=1.0, dtype="float32")
    config.encoder.update(dropout=0.0, attention_dropout=0.0, input_dropout=0.0, feature_dropout=0.0, pre_norm=True)
    config.train.steps = 800


def wav2vec2_small(config: ConfigDict) -> None:
    config.objective.update(projection=64, distractors=50, feature_penalty=0.0)
    config.quantizer.update(codes=32, width=64, temperature=(2.0, 0.998, 0.5))


def self_distilled_small(config: ConfigDict) -> None:
    config.objective.update(top_blocks=2, ema_start=0.99, ema_end=0.999, ema_steps=800, freeze_teacher_at=0)


def data2vec2_small(config: ConfigDict) -> None:
    self_distilled_small(config)
    config.data.min_seconds = 0.0
    config.objective.update(masks=4, decoder_width=64, decoder_dropout=0.0)


def dinosr_small(config: ConfigDict) -> None:
    self_distilled_small(config)
    config.objective.update(codes=32)


def s_jepa_small(config: ConfigDict) -> None:
    config.mask.update(base().mask)
    config.objective.update(components=64, mixture_update="statistics", mixture_decay=0.99, layer_every=200)
    config.objective.update(reservoir=1024, visible_weight=1.0)
    config.objective.update(ema_fast=0.99, ema_slow=0.999, ema_every=200)
    config.optim.update(betas=base().optim.betas, weight_decay=base().optim.weight_decay)


def best_rq_small(config: ConfigDict) -> None:
    # At 50 Hz; as in the paper, 400 ms and a start at each log-mel frame of 10 ms with probability 0.01.
    config.mask.update(span=(20, 20), probability=0.0199)
    config.objective.update(codes=256)


def w2v_bert_small(config: ConfigDict) -> None:
    config.encoder.update(name="conformer", frontend="subsampled", channels=8, kernel=5)
    config.objective.update(contrastive_blocks=2, projection=64, distractors=25)
    config.quantizer.update(codes=64, width=64, temperature=(2.0, 0.998, 0.5))


VARIANTS = {
    "gmm_jepa": (base, gmm_jepa),
    "pure_jepa": (base, pure_jepa),
    "anchor_alone": (base, anchor_alone),
    "gmm_jepa_sigreg": (base, gmm_jepa_sigreg),
    "sigreg_jepa": (sigreg_jepa, sigreg_jepa_small),
    "hubert": (hubert, hubert_small),
    "wavlm": (wavlm, wavlm_small),
    "wav2vec2": (wav2vec2, wav2vec2_small),
    "data2vec": (data2vec, self_distilled_small),
    "data2vec2": (data2vec2, data2vec2_small),
    "dinosr": (dinosr, dinosr_small),
    "s_jepa": (s_jepa, s_jepa_small),
    "best_rq": (best_rq, best_rq_small),
    "w2v_bert": (w2v_bert, w2v_bert_small),
    "pase": (pase, pase_small),
    "pase_plus": (pase_plus, pase_plus_small),
}
