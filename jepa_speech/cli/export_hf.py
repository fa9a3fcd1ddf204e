"""`jepa-speech export hf`: a run folder → a folder that transformers loads."""

import argparse
import sys
from typing import Any

from jepa_speech.cli.run_to_folder import add_arguments
from jepa_speech.exporters.model_card import model_card
from jepa_speech.huggingface.ctc_layer import CtcLayer, with_ctc
from jepa_speech.huggingface.export_folder import to_huggingface, write_folder
from jepa_speech.objective_parts.contract import HasTexts
from jepa_speech.objectives.ctc import CtcConfig
from jepa_speech.pretrained.load import load_pretrained

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = (
    "a folder for transformers: encoders that it has (docs/export.md lists them) as its own classes, ours with torch "
    "code; a CTC run with its CTC layer and tokenizer"
)
EXAMPLE = "jepa-speech export hf runs/hubert --out hubert-mine"


def run(options: argparse.Namespace) -> dict[str, Any]:
    model = load_pretrained(options.checkpoint, options.step)
    exported = to_huggingface(model.config, model.params["encoder"])
    if isinstance(model.objective, HasTexts):
        keys = model.config.objective
        adapter = (model.params["adapter"], keys) if isinstance(keys, CtcConfig) and keys.adapter else None
        exported = with_ctc(exported, CtcLayer(model.params["head"], model.objective.vocabulary, adapter))
    files = write_folder(options.out, exported, model_card(options.checkpoint, model.config, model.step, exported))
    results = {
        "out": options.out,
        "step": model.step,
        "class": exported.config["architectures"][0],
        "parameters": sum(array.size for array in exported.arrays.values()),
        "files": files,
    }
    print(
        f"{options.out}: {results['class']} of step {model.step}, {results['parameters'] / 1e6:.2f}M parameters; "
        f"fill in the licence in {options.out}/README.md"
    )
    heads = "" if exported.tokenizer else "heads of pretraining, the teacher, λ and "
    print(
        f"{options.out} lacks {heads}the optimizer's state: to continue training, keep {options.checkpoint}",
        file=sys.stderr,
    )
    return results
