"""`jepa-speech export stablehlo`: a run folder → a program that jax runs without this package."""

import argparse
from pathlib import Path
from typing import Any

from jepa_speech.cli.run_to_folder import add_arguments
from jepa_speech.exporters.stablehlo import FILES, to_stablehlo, write_folder
from jepa_speech.ownership import refuse_existing
from jepa_speech.pretrained.load import load_pretrained
from jepa_speech.wording import counted

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "a StableHLO program, of any encoder: waves of any number and length in, all layers out"
EXAMPLE = "jepa-speech export stablehlo runs/mine --out stablehlo-mine"


def run(options: argparse.Namespace) -> dict[str, Any]:
    refuse_existing(Path(options.out), ["export.json", *FILES])
    model = load_pretrained(options.checkpoint, options.step)
    program = to_stablehlo(model.objective, model.params, model.aux_state)
    said = write_folder(options.out, program, options.checkpoint, model.config, model.objective, model.step)
    print(
        f"{options.out}: {said['objective']} of step {model.step}, "
        f"{counted(said['layers'], 'layer')} of width {said['width']}, {said['parameters'] / 1e6:.2f}M parameters"
    )
    return {"out": options.out, **said, "files": list(FILES)}
