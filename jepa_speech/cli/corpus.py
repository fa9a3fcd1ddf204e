"""jepa-speech corpus: manifests for `jepa-speech probe`, from a public corpus in the layout it is published in."""

import argparse
from typing import Any

from jepa_speech.api.corpus import list_corpus
from jepa_speech.cli.commands import arguments
from jepa_speech.local_paths import local_path
from jepa_speech.probing.corpora import listing
from jepa_speech.wording import quoted

HELP = "list a public corpus (Speech Commands, IEMOCAP, ...) with SUPERB's splits, for probe"
EXAMPLE = "jepa-speech corpus speech_commands /path/to/corpus --out labelled/speech_commands"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help=f"one of: {', '.join(listing.NAMES)}")
    parser.add_argument(
        "root",
        type=local_path,
        metavar="ROOT",
        help="the folder that holds it; see jepa_speech/probing/corpora/NAME.py",
    )
    parser.add_argument(
        "--out", type=local_path, required=True, metavar="DIR", help="gets the manifests: what `probe --data` takes"
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    results = list_corpus(**arguments(options, list_corpus))
    for file, count in results["files"].items():
        print(f"{options.out}/{file}: {count}")
    tasks = ",".join(results["tasks"])
    print(f"next: jepa-speech probe --checkpoint RUN --data {quoted(options.out)} --tasks {tasks} --out results")
    return results
