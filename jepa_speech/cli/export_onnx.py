"""`jepa-speech export onnx`: a run folder → one ONNX file."""

import argparse
from pathlib import Path
from typing import Any

from jepa_speech.cli.run_to_folder import add_arguments
from jepa_speech.exporters.model_card import model_card
from jepa_speech.exporters.onnx import INPUTS, OUTPUTS, write_onnx
from jepa_speech.files import write_text
from jepa_speech.huggingface.export_folder import to_huggingface
from jepa_speech.ownership import refuse_existing
from jepa_speech.pretrained.load import load_pretrained

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "model.onnx, of whatever `export hf` takes: waves of any number and length in, all layers out"
EXAMPLE = "jepa-speech export onnx runs/mine --out onnx-mine"


def run(options: argparse.Namespace) -> dict[str, Any]:
    path = Path(options.out) / "model.onnx"
    refuse_existing(path.parent, [path.name, "README.md"])
    model = load_pretrained(options.checkpoint, options.step)
    exported = to_huggingface(model.config, model.params["encoder"])
    size = write_onnx(path, exported)
    write_text(path.with_name("README.md"), model_card(options.checkpoint, model.config, model.step, exported))
    print(f"{path}: {exported.config['architectures'][0]} of step {model.step}, {size / 1e6:.1f} MB")
    return {"out": options.out, "step": model.step, "bytes": size, "inputs": INPUTS, "outputs": OUTPUTS}
