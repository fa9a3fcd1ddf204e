"""`jepa-speech import hf`: a public checkpoint → a run folder, to probe, to analyze, to start training from."""

import argparse
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jepa_speech.config import present
from jepa_speech.errors import UserError
from jepa_speech.huggingface.families import OWN
from jepa_speech.huggingface.imported import imported_model
from jepa_speech.objective_parts.contract import Tree
from jepa_speech.train.checkpoint import Checkpoints
from jepa_speech.train.run_folder import refuse_foreign, run_folder
from jepa_speech.train.run_json import claim_workdir
from jepa_speech.train.state import TrainState, count_params

HELP = (
    "a run folder of a public speech model (docs/import.md lists them), from the folder that transformers writes, or "
    "of what `jepa-speech export hf` wrote"
)
EXAMPLE = "jepa-speech import hf wavlm-large/ --out runs/wavlm-large"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="with config.json and safetensors; nothing is downloaded")
    parser.add_argument("--out", required=True, metavar="RUN", help="a new folder")
    parser.add_argument(
        "--adapter",
        default="",
        metavar="LANG",
        help="of MMS: take the adapters of this language from adapter.LANG.safetensors (default: those in the weights)",
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    refuse_foreign(Path(options.out))
    config, written, _, params, aux_state, imported = imported_model(options.folder, options.adapter)
    save(Path(options.out), written, params, aux_state)
    source = present(config.imported, "imported")
    taken = {"encoder": imported.encoder} | imported.extra
    results = {
        "run": options.out,
        "model_type": source.model_type,
        "objective": config.objective.name,
        "parameters": {name: count_params(tree) for name, tree in taken.items()},
        "fresh": sorted(params.keys() - taken.keys()),
        "not_taken": imported.not_taken,
        "drawn": imported.drawn,
    }
    sizes = ", ".join(f"{name} {count / 1e6:.2f}M" for name, count in results["parameters"].items())
    print(f"{options.out}: {results['model_type']} of {options.folder}, objective {results['objective']}")
    print(f"taken        {sizes}")
    advice = " (not in the checkpoint: train before use)" if results["fresh"] else ""
    print(f"fresh        {', '.join(results['fresh']) or 'nothing'}{advice}")
    print(f"not taken    {', '.join(results['not_taken']) or 'nothing'}")
    if why := source.no_texts:
        results["no_texts"] = why
        print(f"no texts     the CTC layer is left out: {why}")
    if config.vocabulary:
        results["classes"] = len(config.vocabulary)
        print(
            f"texts        {results['classes']} classes: `jepa-speech transcribe {options.out}` writes texts, and "
            f"`--config configs/finetune_ctc.py:{options.out}` trains on with this vocabulary"
        )
    if results["model_type"] == OWN and results["objective"] != "ctc":
        print(
            "lost         the cluster head, λ and the teacher, which `jepa-speech export hf` leaves out: this run has "
            "λ = 0 (pure JEPA). To continue training, use the original run folder"
        )
    return results


def save(out: Path, config: dict[str, Any], params: Tree, aux_state: Tree) -> None:
    """Writes a run at step 0; config: as JSON has it. Raises UserError if the folder holds a run or files of another
    program.
    """
    with run_folder(out, "import hf"):
        claim_workdir(out, config)
        save_checkpoint(out, params, aux_state)


def save_checkpoint(out: Path, params: Tree, aux_state: Tree) -> None:
    with Checkpoints(out, keep=1) as checkpoints:
        if checkpoints.latest is not None:
            raise UserError(
                f"{out}: this checkpoint has been imported there before; remove it, or choose another --out"
            )
        zero: Any = np.zeros((), np.int32)  # NumPy's arrays are saved as jax's are
        key: Any = np.asarray(jax.random.PRNGKey(0))
        checkpoints.save(0, TrainState(params, aux_state, {}, zero, key, zero, zero))
