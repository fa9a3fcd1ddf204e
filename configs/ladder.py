"""The ladder: the objectives of configs/compare_small.py at several budgets, for `jepa-speech compare`.

    jepa-speech compare --config configs/ladder.py --input SPEECH/large/pretrain.manifest.jsonl --data \
        SPEECH/librispeech:phones,abx,pr,speaker SPEECH/emodb:emotion SPEECH/slu_synthetic:slots --out benchmarks/ladder

Begun; a rough estimate of all is 25 hours on two CPU cores (benchmarks/ladder/). LADDER says what `compare` runs at
each budget (steps).
"""

from compare_small import ANCHORS, get_config

__all__ = ["ANCHORS", "LADDER", "get_config"]

FOLLOWED = ("gmm_jepa", "anchor_alone", "gmm_jepa_sigreg", "sigreg_jepa", "hubert", "wavlm")  # to the largest budget
OTHERS = ("pure_jepa", "s_jepa", "data2vec", "data2vec2", "best_rq", "dinosr", "wav2vec2")
LADDER = {
    "seeds": {  # budget -> runs of each objective
        "800": dict.fromkeys((*FOLLOWED, *OTHERS), 3),
        "3200": dict.fromkeys(FOLLOWED, 3) | dict.fromkeys(OTHERS, 1),
        "12800": dict.fromkeys(FOLLOWED, 1) | {"gmm_jepa": 3, "wavlm": 3},
    },
    "learning_rates": (1e-3, 3e-3),  # tried at the smallest budget; the better one on valid is that of all runs
    "only_largest": ("pr", "speaker", "emotion", "slots"),  # tasks; the others are probed at every budget
}
