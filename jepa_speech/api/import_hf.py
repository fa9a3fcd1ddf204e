"""`jepa_speech.import_hf`: a public checkpoint → a run folder, to probe, to analyze, to start training from."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from jepa_speech.config import present
from jepa_speech.errors import UserError
from jepa_speech.huggingface.imported import imported_model
from jepa_speech.local_paths import takes_local_paths
from jepa_speech.objective_parts.contract import Tree
from jepa_speech.training.checkpoint import Checkpoints
from jepa_speech.training.run_folder import refuse_foreign, run_folder
from jepa_speech.training.run_json import claim_workdir
from jepa_speech.training.state import TrainState, count_params


@takes_local_paths
def import_hf(folder: str | Path, out: str | Path, *, adapter: str = "") -> dict[str, Any]:
    """Make a run folder, at step 0, of a public speech model (docs/import.md lists them) or of an export.

    Args:
        folder: what transformers writes, with config.json and safetensors, or what `export_hf` wrote. Nothing is
            downloaded.
        out: a new folder.
        adapter: of MMS: take the adapters of this language from adapter.LANG.safetensors; default: those in the
            weights.

    Returns a dict: `run` (= out), `model_type` (transformers' name), `objective` (of the run), `parameters` (their
    number, by part), `fresh` (parts that the folder lacks, drawn anew: train before use), `not_taken` (its arrays that
    the run has no use for), `drawn` (single arrays that it lacks). A CTC model also has `classes` (size of its
    vocabulary), or `no_texts`: why its CTC layer is left out.

    Raises UserError if the model is of another kind or damaged, or `out` holds a run or files of another program.
    """
    refuse_foreign(Path(out))
    config, written, _, params, aux_state, imported = imported_model(folder, adapter)
    save(Path(out), written, params, aux_state)
    source = present(config.imported, "imported")
    taken = {"encoder": imported.encoder} | imported.extra
    results = {
        "run": str(out),
        "model_type": source.model_type,
        "objective": config.objective.name,
        "parameters": {name: count_params(tree) for name, tree in taken.items()},
        "fresh": sorted(params.keys() - taken.keys()),
        "not_taken": imported.not_taken,
        "drawn": imported.drawn,
    }
    results |= {"no_texts": source.no_texts} if source.no_texts else {}
    return results | ({"classes": len(config.vocabulary)} if config.vocabulary else {})


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
            raise UserError(f"{out}: this checkpoint has been imported there before; remove it, or choose another out")
        zero: Any = np.zeros((), np.int32)  # NumPy's arrays are saved as jax's are
        key: Any = np.asarray(jax.random.PRNGKey(0))
        checkpoints.save(0, TrainState(params, aux_state, {}, zero, key, zero, zero))
