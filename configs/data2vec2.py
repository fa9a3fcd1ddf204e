"""data2vec 2.0 for audio, Base: only visible frames are encoded, with eight masks for one pass of the teacher.

Paper: arXiv 2212.07525. The size, the masks and the schedule are those of its released code (fairseq,
base_audio_only_task); its tables are not checked. Its crops have 2 to 20 s, ours are padded to 5, 10 or 20 s.
Time: not yet run as a whole, and no step is measured.
Launch:

    jepa-speech train --config data2vec2 --workdir runs/data2vec2 --config.data.store=STORE

A batch of 500 s has eight masks, so the encoder works on 4,000 s with half of the frames.
"""

from data2vec import get_config as data2vec
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = data2vec()
    config.data.update(batch_seconds=500.0, buckets=(5.0, 10.0, 20.0), min_seconds=2.0)
    config.encoder.update(alibi=True)
    config.mask.update(policy="centres", ratio=(0.5, 0.5), probability=0.55, span=(5, 5), fill="zero")
    config.objective.update(name="data2vec2", ema_end=0.99999, ema_steps=75_000)
    decoder = {"layers": 4, "width": 384, "kernel": 7, "groups": 16, "dropout": 0.1}
    config.objective.update({"masks": 8, "noise": 0.01} | {f"decoder_{key}": value for key, value in decoder.items()})
    config.optim.update(learning_rate=7.5e-4, warmup_steps=8000, hold_steps=0, schedule="cosine")
    return config
