"""`jepa-speech import hf`: a public checkpoint → a run folder, to probe, to analyze, to start training from."""

import argparse
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jepa_speech.errors import UserError
from jepa_speech.export.huggingface import Imported, from_huggingface, read_folder
from jepa_speech.objectives import build
from jepa_speech.objectives.contract import Objective, Tree
from jepa_speech.objectives.self_distilled import SelfDistilled
from jepa_speech.train.checkpoint import Checkpoints
from jepa_speech.train.configfile import claim_workdir
from jepa_speech.train.state import TrainState, count_params

HELP = "a run folder of a public wav2vec 2.0, HuBERT, WavLM or data2vec, from the folder that transformers writes"
EXAMPLE = "jepa-speech import hf wavlm-large/ --out runs/wavlm-large"

# The objective that a model type was trained with.
OBJECTIVES = {"wav2vec2": "wav2vec2", "hubert": "hubert", "wavlm": "hubert", "data2vec-audio": "data2vec"}
CLUSTERS = 500  # of HuBERT's and WavLM's second iteration; their published files leave the head out


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="with config.json and model.safetensors; nothing is downloaded")
    parser.add_argument("--out", required=True, metavar="RUN", help="a new folder")


def run(options: argparse.Namespace) -> dict[str, Any]:
    theirs, arrays = read_folder(options.folder)
    imported = from_huggingface(theirs, arrays)
    config = run_config(options.folder, theirs, imported)
    objective = build(config)
    params, slow = with_imported(objective, imported, options.folder)
    save(Path(options.out), config, params, slow)
    taken = {"encoder": imported.encoder} | imported.extra
    results = {
        "run": options.out,
        "model_type": theirs["model_type"],
        "objective": config["objective"]["name"],
        "parameters": {name: count_params(tree) for name, tree in taken.items()},
        "fresh": sorted(params.keys() - taken.keys()),
        "not_taken": imported.not_taken,
    }
    sizes = ", ".join(f"{name} {count / 1e6:.2f}M" for name, count in results["parameters"].items())
    print(f"{options.out}: {results['model_type']} of {options.folder}, objective {results['objective']}")
    print(f"taken        {sizes}")
    print(f"fresh        {', '.join(results['fresh']) or 'nothing'} (not in the checkpoint: train before use)")
    print(f"not taken    {', '.join(results['not_taken']) or 'nothing'}")
    return results


def run_config(folder: str, theirs: dict[str, Any], imported: Imported) -> dict[str, Any]:
    """The config of the run: what the checkpoint says; all else is the default of its section."""
    name = OBJECTIVES[theirs["model_type"]]
    config = {
        "imported": {"folder": folder, "model_type": theirs["model_type"]},
        "seed": 0,
        "encoder": imported.section,
        "mask": {},
        "mixing": {"utterance": 0.0, "noise": 0.0},
        "anchor": {"path": "", "components": 0},
        "objective": {"name": name},
        "train": {"steps": 1},
    }
    if name == "hubert":
        config["anchor"]["components"] = CLUSTERS
    if name == "data2vec":
        config["objective"]["top_blocks"] = min(8, imported.section["blocks"])
    if name == "wav2vec2":
        config["objective"]["projection"] = theirs.get("proj_codevector_dim", 256)
        config["quantizer"] = {
            "groups": theirs.get("num_codevector_groups", 2),
            "codes": theirs.get("num_codevectors_per_group", 320),
            "width": theirs.get("codevector_dim", 256),
        }
    return config


def with_imported(objective: Objective, imported: Imported, folder: str) -> tuple[Tree, Tree]:
    """Fresh (params, slow) with everything replaced that the checkpoint has; a teacher is the student's copy."""
    fresh, slow = jax.jit(objective.init)(jax.random.PRNGKey(0))
    params = fresh | {"encoder": imported.encoder} | imported.extra
    if jax.tree.map(np.shape, params) != jax.tree.map(np.shape, fresh):
        raise UserError(f"{folder}: its heads are not of the sizes that its config.json tells")
    if isinstance(objective, SelfDistilled):
        slow = slow | {"teacher": objective.teacher(params)}
    return params, slow


def save(out: Path, config: dict[str, Any], params: Tree, slow: Tree) -> None:
    """A run at step 0; raises UserError if the folder holds one."""
    claim_workdir(out, config)
    with Checkpoints(out, keep=1) as checkpoints:
        if checkpoints.latest is not None:
            raise UserError(
                f"{out}: this checkpoint has been imported there before; remove it, or choose another --out"
            )
        zero = np.zeros((), np.int32)
        key = np.asarray(jax.random.PRNGKey(0))
        checkpoints.save(0, TrainState(params, slow, {}, zero, key, zero, zero))
