"""jepa-speech corpus: manifests for `jepa-speech probe`, from a public corpus in the layout it is published in."""

import argparse
from pathlib import Path
from typing import Any

from jepa_speech.errors import UsageError
from jepa_speech.probe.corpora import listing

HELP = "list a public corpus (Speech Commands, IEMOCAP, ...) with SUPERB's splits, for probe"
EXAMPLE = "jepa-speech corpus speech_commands /path/to/corpus --out labelled/speech_commands"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help=f"one of: {', '.join(listing.NAMES)}")
    parser.add_argument("root", metavar="ROOT", help="the folder that holds it; see jepa_speech/probe/corpora/NAME.py")
    parser.add_argument("--out", required=True, metavar="DIR", help="gets the manifests: what `probe --data` takes")


def run(args: argparse.Namespace) -> dict[str, Any]:
    if args.name not in listing.NAMES:
        raise UsageError(f"unknown corpus {args.name}: choose from {', '.join(listing.NAMES)}")
    found = listing.write(args.name, Path(args.root), Path(args.out))
    for file, count in found.items():
        print(f"{args.out}/{file}: {count}")
    tasks = ",".join(listing.reader(args.name).TASKS)
    print(f"next: jepa-speech probe --checkpoint RUN --data {args.out} --tasks {tasks} --out results")
    return {"files": found}
