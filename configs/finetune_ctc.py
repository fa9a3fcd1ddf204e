"""Fine-tuning with CTC on one hour of transcripts: wav2vec 2.0 Base, as in its released `base_1h`.

Paper: arXiv 2006.11477. Size and schedule are those of its released code (fairseq); its tables are not checked.
Time: not yet run as a whole, and no step is measured.
Launch:

    jepa-speech train --config finetune_ctc:RUN --workdir runs/asr --config.data.store=STORE --config.data.heldout=VALID

RUN is the run folder of a trained encoder, the folder of a public model that transformers wrote (docs/import.md), or
what `jepa-speech export hf` wrote: encoder and weights are taken from it. Without it, the encoder is
wav2vec 2.0's Base, and `--config.init_from=RUN` says where its weights are. The same encoder from scratch:
`--config.init_from= --config.objective.freeze_steps=0 --config.objective.freeze_frontend=False`.

The CTC layer is new, also if a folder of transformers has one. If RUN is itself a CTC run, for example one that
`jepa-speech import hf` made of a folder with a CTC layer, its characters or its vocabulary and its layer are taken, and
the encoder learns from the first step.

w2v-BERT 2.0 is usually fine-tuned with an adapter, which halves the frames: `--config.objective.adapter_layers=1`.
Like the CTC layer, it is new and learns from the first step. If RUN is a CTC run, its adapter is taken with its layer.

The learning rate rises for a tenth of the steps, stays for four tenths and falls exponentially (to 1% of the peak; in
the released code to 5%); the encoder learns after 10/13 of the steps. Both follow `--config.train.steps`, spans of
channels `--config.encoder.width`.

Released for other amounts of text, in batches of 1600 s each:

    texts                optim.learning_rate  train.steps  objective.freeze_steps  objective.channel_probability
    10 minutes, 1 hour   5e-5                 13,000       10,000                  0.25
    10 hours             5e-5                 20,000       10,000                  0.5
    100 hours            3e-5                 80,000       0                       0.5
"""

from pathlib import Path

from ml_collections import ConfigDict
from wav2vec2 import get_config as wav2vec2

from jepa_speech.errors import UsageError
from jepa_speech.huggingface.imported import run_config
from jepa_speech.huggingface.weights import read_config
from jepa_speech.training.configfile import config_of_a_run


def get_config(run: str = "") -> ConfigDict:
    config = wav2vec2()
    del config.quantizer
    theirs = take_encoder(config, run) if run else {}
    if config.encoder.name in ("wav2vec2", "wav2vec2_conformer"):
        config.encoder.update(layerdrop=0.1, activation_dropout=0.1)
    config.data.update(batch_seconds=1600.0, buckets=(4.0, 8.0, 12.0, 16.0))
    config.train.update(steps=13_000)
    steps = config.train.get_ref("steps")
    config.objective = ConfigDict(
        {
            "name": "ctc",
            "characters": "",
            "freeze_steps": steps * 10 // 13,
            "freeze_frontend": True,
            "channel_probability": 0.25,
            "channel_span": config.encoder.get_ref("width") // 12,
            "adapter_layers": 0,
            "adapter_kernel": 3,
            "adapter_stride": 2,
            "adapter_activation": "relu",
        }
    )
    if theirs.get("objective", {}).get("name") == "ctc":  # its layer has learnt, so the encoder may learn at once
        config.objective.update(characters=theirs["objective"].get("characters", ""), freeze_steps=0)
        config.objective.update({key: x for key, x in theirs["objective"].items() if key.startswith("adapter_")})
        if "vocabulary" in theirs:
            config.vocabulary = ConfigDict(theirs["vocabulary"])
    config.optim.update(learning_rate=5e-5, schedule="exponential", epsilon=1e-8, weight_decay=0.0, clip=0.0)
    config.optim.warmup_steps, config.optim.hold_steps = steps // 10, steps * 4 // 10
    return config


def take_encoder(config: ConfigDict, run: str) -> dict:
    """Takes the encoder of a run or of a folder that transformers wrote, and where its weights are. Returns the config
    of that run.
    """
    path = Path(run) / "config.json"
    if not path.is_file():
        raise UsageError(f"configs/finetune_ctc.py:{run}: {run} is no run folder (no config.json in it)")
    theirs = config_of_a_run(path)
    config.init_from = run
    if "model_type" in theirs:
        theirs = run_config(run, read_config(run))
    elif "encoder" not in theirs:
        raise UsageError(f"{path}: neither the config of a run nor of a model (no encoder, no model_type)")
    config.encoder = ConfigDict(theirs["encoder"])
    config.mask.fill = theirs.get("mask", {}).get("fill", "learned")
    return theirs
