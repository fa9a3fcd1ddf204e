"""Read a folder of transformers as an objective with its parameters.

`load_pretrained` uses the result as it is, `import hf` writes a run, and training starts from it (`init_from`).
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jepa_speech import checked
from jepa_speech.errors import UserError
from jepa_speech.huggingface import own_encoder
from jepa_speech.huggingface.bert_adapter import PREFIX, read_adapter
from jepa_speech.huggingface.ctc_layer import BIAS, OWN_PREFIX, WEIGHT, ctc_sections, read_ctc
from jepa_speech.huggingface.families import FAMILIES, OWN
from jepa_speech.huggingface.parameters import Imported, from_huggingface, split
from jepa_speech.huggingface.weights import read_folder
from jepa_speech.objective_parts.contract import HasTeacher, Objective, Tree
from jepa_speech.objectives import build, parsed
from jepa_speech.settings.run_config import RunConfig
from jepa_speech.wording import counted

CLUSTERS = 500  # of HuBERT's and WavLM's second iteration; their published files leave the head out


class ImportedModel(NamedTuple):
    """A run of the folder at step 0. config: the run's. written: the contents of its config.json. imported: the arrays
    that the folder has; other parts of params and aux_state are initialised, or copies of them.
    """

    config: RunConfig
    written: dict[str, Any]
    objective: Objective
    params: Tree
    aux_state: Tree
    imported: Imported


def read_imported(folder: str | Path, adapter: str = "") -> tuple[dict[str, Any], Imported]:
    """Returns config.json, and the encoder with its heads, of a folder that transformers or `jepa-speech export hf`
    wrote.

    Prints on stderr which parameters of training the weights lack, and which arrays within the encoder are not used.
    Raises UserError for another folder, and if it cannot be read.
    """
    theirs, arrays = read_folder(folder, adapter)
    return theirs, imported_of(folder, theirs, arrays)[0]


def imported_of(
    folder: str | Path, theirs: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> tuple[Imported, dict[str, np.ndarray]]:
    """Returns encoder and heads, and the arrays that are outside the encoder or of an adapter. See `read_imported`."""
    kind, where = theirs["model_type"], str(Path(folder) / "config.json")
    if kind == OWN:
        ours = {name.removeprefix(OWN_PREFIX): x for name, x in arrays.items() if name not in (WEIGHT, BIAS)}
        others = {name: x for name, x in arrays.items() if name in (WEIGHT, BIAS)}
        return Imported(*own_encoder.from_torch(theirs, ours, where), {}, sorted(others), [], []), others
    imported = from_huggingface(theirs, arrays, where)
    if imported.drawn:
        names = ", ".join(imported.drawn)
        print(
            f"{folder}: its weights lack {names}, initialised at random; only training with masks uses it",
            file=sys.stderr,
        )
    if ignored := imported.ignored:
        print(
            f"{folder}: {counted(len(ignored), 'array')} of its weights not used, because a "
            f"{kind} encoder of this config.json has none: "
            f"{', '.join(ignored[:3])}{', ...' if ignored[3:] else ''}",
            file=sys.stderr,
        )
    mine, others = split(arrays, kind, where)
    return imported, others | {name: x for name, x in mine.items() if name.startswith(PREFIX)}


def imported_model(folder: str | Path, adapter: str = "") -> ImportedModel:
    """Returns the folder as a run. Raises UserError as `read_imported` does, and for heads of other sizes.

    With a CTC layer, the run has the objective `ctc`. If its vocabulary cannot be used, the encoder is imported without
    the layer, and `imported.no_texts` of the config gives the reason.
    adapter: the language whose adapters (MMS) and vocabulary the model has; "": those in the weights, and target_lang.
    """
    theirs, arrays = read_folder(folder, adapter)
    imported, others = imported_of(folder, theirs, arrays)
    written = run_config(folder, theirs)
    if adapter:
        written["imported"]["adapter"] = adapter
    if WEIGHT in others:
        width = written["encoder"]["width"]
        try:
            layer = read_ctc(folder, others, width, adapter)
            if theirs["model_type"] == "wav2vec2-bert" and theirs.get("add_adapter"):
                where = str(Path(folder) / "config.json")
                layer = layer._replace(adapter=read_adapter(theirs, others, written["encoder"], where))
            elif any(name.startswith(PREFIX) for name in others):
                raise UserError(
                    f"{folder}: its CTC layer is on an adapter after the encoder (add_adapter), which cannot be read"
                )
        except UserError as error:
            written["imported"]["no_texts"] = str(error)
        else:
            written |= ctc_sections(layer, width)
            blank = layer.tokens.blank
            if (number := theirs.get("pad_token_id", blank)) not in (blank, None):
                print(
                    f"{folder}: CTC's blank is class {blank}, {layer.tokens.blank_token!r}, as its tokenizer says; "
                    f"pad_token_id = {checked.shown(number)} in config.json is not used",
                    file=sys.stderr,
                )
            left = [name for name in imported.not_taken if name not in (WEIGHT, BIAS)]
            extra = {"head": layer.head}
            if layer.adapter is not None:
                extra["adapter"] = layer.adapter[0]
                left = [name for name in left if not name.startswith(PREFIX)]
            imported = imported._replace(extra=extra, not_taken=left)
    config = parsed(written)
    objective = build(config)
    return ImportedModel(config, written, objective, *with_imported(objective, imported, folder), imported)


def run_config(folder: str | Path, theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the config of the run: the values of config.json, and else the defaults of each section."""
    kind = theirs["model_type"]
    family = FAMILIES[kind]
    section, name = family.section(theirs), family.objective
    config: dict[str, Any] = {
        "imported": {"folder": str(folder), "model_type": kind},
        "seed": 0,
        "encoder": section,
        "mask": {},
        "mixing": {"utterance": 0.0, "noise": 0.0},
        "anchor": {"path": "", "components": 0},
        "objective": {"name": name},
        "train": {"steps": 1},
    }
    if kind == OWN:
        config["mask"]["fill"] = "learned" if theirs["masked_embedding"] else "random"
        config["head"] = {}
        config["objective"] |= {"lambda_start": 0.0, "lambda_end": 0.0}
    if name == "hubert":
        config["anchor"]["components"] = CLUSTERS
    if name == "data2vec":
        config["objective"]["top_blocks"] = min(8, section["blocks"])
    if name == "w2v_bert":
        config |= w2v_bert_defaults(section["blocks"])
    if "num_codevector_groups" in family.defaults:
        config["objective"]["projection"] = theirs["proj_codevector_dim"]
        config["quantizer"] = {
            "groups": theirs["num_codevector_groups"],
            "codes": theirs["num_codevectors_per_group"],
            "width": theirs["codevector_dim"],
        }
    return config


def w2v_bert_defaults(blocks: int) -> dict[str, Any]:
    """Returns sections for an encoder of which no quantiser was published. The contrastive loss is read after half of
    the blocks. A single block is too few for both losses, so it trains as wav2vec 2.0 does.
    """
    if blocks == 1:
        return {"objective": {"name": "wav2vec2"}, "quantizer": {}}
    return {
        "objective": {"name": "w2v_bert", "contrastive_blocks": blocks // 2},
        "quantizer": {"groups": 1, "codes": 1024},
    }


def with_imported(objective: Objective, imported: Imported, folder: str | Path) -> tuple[Tree, Tree]:
    """Returns params and aux_state: from the checkpoint, or initialised; a teacher is a copy of the student."""
    taken, key = {"encoder": imported.encoder} | imported.extra, jax.random.PRNGKey(0)

    def rest(key: jax.Array) -> tuple[Tree, Tree]:
        """Returns only the parts that the checkpoint lacks, so that XLA initialises no large encoder."""
        params, aux_state = objective.init(key)
        without = {name: tree for name, tree in params.items() if name not in taken}
        return without, {name: tree for name, tree in aux_state.items() if name != "teacher"}

    wanted, wanted_slow = jax.eval_shape(objective.init, key)
    fresh, aux_state = jax.jit(rest)(key)
    params = taken | fresh
    if shapes(params) != shapes(wanted):
        raise UserError(f"{folder}: the sizes of its heads do not match its config.json: download both again")
    if "teacher" not in wanted_slow:
        return params, aux_state
    assert isinstance(objective, HasTeacher)
    return params, aux_state | {"teacher": objective.teacher(params)}


def shapes(tree: Tree) -> Tree:
    return jax.tree.map(lambda leaf: leaf.shape, tree)
