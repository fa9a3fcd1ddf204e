"""`jepa-speech import`: a checkpoint of other software → a run folder."""

import argparse
from typing import Any

from jepa_speech.api.import_hf import import_hf
from jepa_speech.cli.commands import Kind, add_kinds, arguments
from jepa_speech.huggingface.families import OWN
from jepa_speech.local_paths import local_path
from jepa_speech.wording import quoted

HELP = "make a run folder of a public checkpoint of transformers' speech models, or of an export"
EXAMPLE = "jepa-speech import hf wavlm-large/ --out runs/wavlm-large"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_kinds(parser, KINDS)


def run(options: argparse.Namespace) -> dict[str, Any]:
    return KINDS[options.kind].run(options)


def add_hf(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", type=local_path, metavar="DIR", help="with config.json and safetensors; nothing is downloaded"
    )
    parser.add_argument("--out", type=local_path, required=True, metavar="RUN", help="a new folder")
    parser.add_argument(
        "--adapter",
        default="",
        metavar="LANG",
        help="of MMS: take the adapters of this language from adapter.LANG.safetensors (default: those in the weights)",
    )


def run_hf(options: argparse.Namespace) -> dict[str, Any]:
    results = import_hf(**arguments(options, import_hf))
    sizes = ", ".join(f"{name} {count / 1e6:.2f}M" for name, count in results["parameters"].items())
    print(f"{options.out}: {results['model_type']} of {options.folder}, objective {results['objective']}")
    print(f"taken        {sizes}")
    advice = " (not in the checkpoint: train before use)" if results["fresh"] else ""
    print(f"fresh        {', '.join(results['fresh']) or 'nothing'}{advice}")
    print(f"not taken    {', '.join(results['not_taken']) or 'nothing'}")
    if why := results.get("no_texts"):
        print(f"no texts     the CTC layer is left out: {why}")
    if classes := results.get("classes"):
        print(
            f"texts        {classes} classes: `jepa-speech transcribe {quoted(options.out)}` writes texts, and "
            f"`--config configs/finetune_ctc.py:{quoted(options.out)}` trains on with this vocabulary"
        )
    if results["model_type"] == OWN and results["objective"] != "ctc":
        print(
            "lost         the cluster head, λ and the teacher, which `jepa-speech export hf` leaves out: this run has "
            "λ = 0 (pure JEPA). To continue training, use the original run folder"
        )
    return results


KINDS = {
    "hf": Kind(
        "a run folder of a public speech model (docs/import.md lists them), from the folder that transformers writes, "
        "or of what `jepa-speech export hf` wrote",
        EXAMPLE,
        add_hf,
        run_hf,
    )
}
