"""A folder that transformers loads, as an objective with its parameters: by it `load_pretrained` reads the folder as it
is, `import hf` makes a run of it, and training starts from it (`init_from`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jepa_speech.errors import UserError
from jepa_speech.export import own_encoder
from jepa_speech.export.huggingface import Imported, encoder_section, from_huggingface, read_folder
from jepa_speech.export.their_config import OWN
from jepa_speech.objectives import build
from jepa_speech.objectives.contract import Objective, Tree

# The objective that a model type was trained with; our own encoder's folder does not say it.
OBJECTIVES = {
    "wav2vec2": "wav2vec2",
    "hubert": "hubert",
    "wavlm": "hubert",
    "data2vec-audio": "data2vec",
    OWN: "gmm_jepa",
}
CLUSTERS = 500  # of HuBERT's and WavLM's second iteration; their published files leave the head out


class ImportedModel(NamedTuple):
    """What a run of the folder would be, at step 0. config: of the run. imported: what came of the folder, the rest of
    params and slow being fresh, or a copy of it.
    """

    config: dict[str, Any]
    objective: Objective
    params: Tree
    slow: Tree
    imported: Imported


def read_imported(folder: str | Path) -> tuple[dict[str, Any], Imported]:
    """(config.json, encoder and heads) of a folder of transformers, or of what `jepa-speech export hf` wrote.

    Raises UserError where it is neither, or cannot be read.
    """
    theirs, arrays = read_folder(folder)
    where = str(Path(folder) / "config.json")
    if theirs["model_type"] == OWN:
        return theirs, Imported(*own_encoder.from_torch(theirs, arrays, where), {}, [])
    return theirs, from_huggingface(theirs, arrays, where)


def imported_model(folder: str | Path) -> ImportedModel:
    """The folder as a run would hold it; raises UserError as `read_imported` does, and for heads of other sizes."""
    theirs, imported = read_imported(folder)
    config = run_config(folder, theirs)
    objective = build(config)
    return ImportedModel(config, objective, *with_imported(objective, imported, folder), imported)


def run_config(folder: str | Path, theirs: Mapping[str, Any]) -> dict[str, Any]:
    """The config of the run: what config.json says; all else is the default of its section."""
    kind = theirs["model_type"]
    own = kind == OWN
    section, name = (own_encoder.encoder_section if own else encoder_section)(theirs), OBJECTIVES[kind]
    config = {
        "imported": {"folder": str(folder), "model_type": kind},
        "seed": 0,
        "encoder": section,
        "mask": {},
        "mixing": {"utterance": 0.0, "noise": 0.0},
        "anchor": {"path": "", "components": 0},
        "objective": {"name": name},
        "train": {"steps": 1},
    }
    if own:
        config["mask"]["fill"] = "learned" if theirs["masked_embedding"] else "random"
        config["head"] = {}
        config["objective"] |= {"lambda_start": 0.0, "lambda_end": 0.0}
    if name == "hubert":
        config["anchor"]["components"] = CLUSTERS
    if name == "data2vec":
        config["objective"]["top_blocks"] = min(8, section["blocks"])
    if name == "wav2vec2":
        config["objective"]["projection"] = theirs["proj_codevector_dim"]
        config["quantizer"] = {
            "groups": theirs["num_codevector_groups"],
            "codes": theirs["num_codevectors_per_group"],
            "width": theirs["codevector_dim"],
        }
    return config


def with_imported(objective: Objective, imported: Imported, folder: str | Path) -> tuple[Tree, Tree]:
    """(params, slow): what the checkpoint has, and fresh what it lacks; a teacher is the student's copy."""
    taken, key = {"encoder": imported.encoder} | imported.extra, jax.random.PRNGKey(0)

    def rest(key: jax.Array) -> tuple[Tree, Tree]:
        """Only what is kept, so that no large encoder is drawn for nothing."""
        params, slow = objective.init(key)
        without = {name: tree for name, tree in params.items() if name not in taken}
        return without, {name: tree for name, tree in slow.items() if name != "teacher"}

    wanted, wanted_slow = jax.eval_shape(objective.init, key)
    fresh, slow = jax.jit(rest)(key)
    params = taken | fresh
    if shapes(params) != shapes(wanted):
        raise UserError(f"{folder}: its heads are not of the sizes that its config.json tells")
    return params, slow | ({"teacher": objective.teacher(params)} if "teacher" in wanted_slow else {})


def shapes(tree: Tree) -> Tree:
    return jax.tree.map(lambda leaf: leaf.shape, tree)
