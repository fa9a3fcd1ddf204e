"""Runs at toy size of every architecture that transformers has, as after training."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from support.toys import CONFIGS, build

from jepa_speech.api.import_hf import save
from jepa_speech.files import write_jsonl
from jepa_speech.settings.run_config import plain
from jepa_speech.training.checkpoint import Checkpoints
from jepa_speech.training.configfile import config_dict
from jepa_speech.training.run_json import claim_workdir
from jepa_speech.training.state import TrainState

SMALL = {"channels": 8, "width": 16, "blocks": 2, "heads": 2, "hidden": 32, "position_groups": 4, "dtype": "float32"}
KERNELS = {"conv": 8, "stacked": 15}  # frames of positions
ENCODERS = ["wav2vec2:large", "hubert", "wavlm:large", "data2vec", "gmm_jepa"]


def small_config(name: str) -> dict[str, Any]:
    """configs/NAME.py with a small encoder, for gmm_jepa wav2vec 2.0 without an embedding for masked frames."""
    file, _, variant = name.partition(":")
    config = config_dict(f"{CONFIGS}/{file}.py" + (f":{variant}" if variant else ""))
    if name == "gmm_jepa":
        config.encoder = config_dict(f"{CONFIGS}/wavlm.py").encoder
        config.encoder.update(relative_bias=False, norm="layer")
        config.mask.fill = "random"
    config.encoder.update(SMALL, position_kernel=KERNELS[config.encoder.positions])
    config.anchor.components = 8
    config.data.store = "somewhere/speech"
    config.inputs = {"store": "f00d", "anchor": ""}
    if "top_blocks" in config.objective:
        config.objective.top_blocks = 1
    return plain(config)


def own_config(frontend: str) -> dict[str, Any]:
    """configs/tiny.py:pure_jepa, our own encoder, on `conv` or `logmel`."""
    config = config_dict(f"{CONFIGS}/tiny.py:pure_jepa")
    config.encoder.update(frontend=frontend, channels=8)
    return plain(config)


def ctc_config(encoder: dict[str, Any], characters: str = " 'abc") -> dict[str, Any]:
    """configs/finetune_ctc.py on an encoder of the functions above."""
    config = config_dict(f"{CONFIGS}/finetune_ctc.py")
    config.encoder = ConfigDict(encoder["encoder"])
    config.mask.fill = encoder["mask"].get("fill", "learned")
    config.objective.update(characters=characters, channel_span=4)
    return plain(config)


def random_weights(config: dict[str, Any]) -> tuple[Any, Any]:
    """(params, slow), large enough for each of them to show in the output."""
    rng = np.random.default_rng(0)

    def drawn(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        scale = 0.3 if len(leaf.shape) < 2 else np.prod(leaf.shape[:-1]) ** -0.5
        return np.asarray(rng.normal(size=leaf.shape) * scale + (len(leaf.shape) == 1), leaf.dtype)

    return jax.tree.map(drawn, jax.eval_shape(build(config).init, jax.random.PRNGKey(0)))


def small_run(folder: Path, config: dict[str, Any]) -> Path:
    """A run at step 0 with random weights."""
    save(folder, config, *random_weights(config))
    return folder


def write_three_checkpoints(folder: Path) -> Path:
    """A run of `own_config` on log-mel with the checkpoints 10, 20 and 30; the second has the lowest held-out loss."""
    config = own_config("logmel")
    params, aux_state = random_weights(config)
    zero, key = np.zeros((), np.int32), np.asarray(jax.random.PRNGKey(0))
    claim_workdir(folder, config)
    losses = {10: 3.0, 20: 1.0, 30: 2.0}
    with Checkpoints(folder, keep=3) as checkpoints:
        for step in losses:
            weights = jax.tree.map(lambda x, step=step: x * (1 + step / 100), params)
            checkpoints.save(step, TrainState(weights, aux_state, {}, zero, key, zero, zero))
    write_jsonl(folder / "metrics.jsonl", [{"step": step, "heldout_loss": loss} for step, loss in losses.items()])
    return folder


def ctc_run(folder: Path, config: dict[str, Any]) -> Path:
    """A CTC run at step 0 with random weights, the classes about equally likely on noise, so that texts vary."""
    params, aux_state = random_weights(config)
    wave, lengths = np.random.default_rng(0).normal(size=(1, 8_000)).astype(np.float32), np.array([8_000])
    z = jax.jit(build(config).encoder.apply)(params["encoder"], wave, lengths).z
    params["head"]["bias"] = -np.asarray(z[0]).mean(0) @ params["head"]["kernel"]
    save(folder, config, params, aux_state)
    return folder
