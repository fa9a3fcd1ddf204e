"""GMM-anchored JEPA at the published size, with every key. An experiment starts from here and changes what it is about.

Values are the defaults (docs/configuration.md), except encoder.dtype, mixing.utterance and mixing.noise: that training
is in bfloat16 and mixes. A config is Python code that runs on your machine: read one before you use it.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The GMM-anchored JEPA at the published size, clean wiring."""
    return ConfigDict(
        {
            "seed": 0,
            "init_from": "",  # a run, or a folder that transformers wrote: start from its weights, all else fresh
            "data": {
                "store": "",  # or several, with weights: a:1,b:0.5
                "heldout": "",  # a store whose loss is measured at every checkpoint
                "probe": "",  # a folder with phones.jsonl, as for `jepa-speech probe`: phone accuracy at every probe
                "batch_seconds": 480.0,  # audio in one global batch
                "buckets": (5.0, 10.0, 15.0),  # padded lengths in seconds; longer recordings are cropped
                "windows": False,  # of those: one crop an epoch, or one for each of its windows
                "min_seconds": 0.0,  # shorter recordings are left out; 0: those that the objective cannot train on
                "max_seconds": 0.0,  # longer recordings are left out; 0: none
                "fetch_ahead": 60.0,  # seconds before use that shards in a bucket are fetched
                "workers": 0,  # reader processes; 0: threads of this one
            },
            "anchor": {
                "path": "",  # what `jepa-speech fit` wrote; or several, with weights: a.npz:1,b.npz:0.5
                "source": "stored",  # or online
                "components": 0,  # 0 and "": as the file says
                "features": "",
                "normalize": "",
                "top_k": 16,
            },
            "encoder": {
                "name": "conformer",
                "frontend": "conv",
                "channels": 512,
                "width": 512,
                "blocks": 4,
                "heads": 8,
                "hidden": 2048,
                "kernel": 31,
                "dropout": 0.1,
                "dtype": "bfloat16",
                "scan": False,  # compile one block for all
                "remat": False,  # keep less in memory: compute blocks again in the backward pass
            },
            "head": {"width": 1024, "blocks": 3, "dropout": 0.1},
            "mask": {
                "site": "pre_context",
                "policy": "exact",
                "ratio": (0.4, 0.65),  # of policies exact and centres
                "span": (10, 25),  # frames
                "probability": 0.65,  # of policies spans, bernoulli and centres
                "min_spans": 2,
                "fill": "learned",  # or zero, random, noise
            },
            "mixing": {
                "utterance": 0.25,
                "noise": 0.25,
                "utterance_db": (-5.0, 5.0),
                "noise_db": (-5.0, 20.0),
            },
            "objective": {
                "name": "gmm_jepa",
                "jepa_weight": 1.0,
                "lambda_start": 1.0,
                "lambda_end": 0.01,
                "visible_weight": 0.0,
                "sigreg_weight": 0.0,  # of SIGReg on the student's output; 0: none
                "sigreg_directions": 1024,
                "predictor_blocks": 1,
                "ema_start": 0.996,
                "ema_end": 0.9999,
            },
            "optim": {
                "learning_rate": 5e-4,
                "warmup_steps": 4000,
                "hold_steps": 0,
                "schedule": "cosine",
                "betas": (0.9, 0.98),
                "epsilon": 1e-6,
                "weight_decay": 0.01,
                "clip": 1.0,
            },
            "train": {
                "steps": 50_000,
                "checkpoint_every": 1000,
                "keep": 2,  # newest checkpoints
                "keep_every": 0,  # a checkpoint whose step this divides stays for ever; 0: none does
                "best": "",  # a figure of metrics.jsonl: the checkpoint where it was lowest stays as well
                "report_every": 50,  # effective rank and its like
                "probe_every": 0,  # steps between probes of the representation; 0: none (docs/training.md)
                "accumulate": 1,  # micro-batches per step
                "max_skipped": 10,  # steps in a row with a non-finite loss before giving up
                "collapse": "warn",  # or stop: after 3 reports in a row that show a collapse
                "watchdog_seconds": 1800,  # without a step, after which the process ends itself; 0: never
                "stop_seconds": 60,  # limit of the step in progress after Ctrl-C or SIGTERM; 0: none
                "loggers": ("tensorboard",),  # and wandb, mlflow: where reports are shown, besides metrics.jsonl
            },
            "mesh": {
                "data": -1,  # devices that split the batch alone; -1: all that fsdp leaves
                "fsdp": 1,  # devices that also split the state
                "rules": ("*: largest",),  # by path: the axis that is split, or copy (training/sharding.py)
            },
        }
    )
