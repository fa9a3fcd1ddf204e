"""`jepa-speech export s3prl`: a run folder → an upstream folder of S3PRL."""

import argparse
from typing import Any

from jepa_speech.cli.run_to_folder import add_arguments
from jepa_speech.exporters.model_card import model_card
from jepa_speech.exporters.s3prl import write_upstream
from jepa_speech.huggingface.export_folder import to_huggingface
from jepa_speech.pretrained.load import load_pretrained

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "an upstream folder for S3PRL, of whatever `export hf` takes: list of waves in, hidden_states out"
EXAMPLE = "jepa-speech export s3prl runs/mine --out s3prl-mine"


def run(options: argparse.Namespace) -> dict[str, Any]:
    model = load_pretrained(options.checkpoint, options.step)
    exported = to_huggingface(model.config, model.params["encoder"])
    files = write_upstream(options.out, exported, model_card(options.checkpoint, model.config, model.step, exported))
    print(f"{options.out}: {exported.config['architectures'][0]} of step {model.step}, as an upstream for S3PRL")
    return {"out": options.out, "step": model.step, "class": exported.config["architectures"][0], "files": files}
