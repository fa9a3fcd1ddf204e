"""The option --root of every verb that reads inputs of `prepare`: manifests, archives, folders of recordings."""

import argparse
from collections.abc import Callable

from jepa_speech.local_paths import local_path

HELP = "recordings may be anywhere in DIR, not just in their input's own folder; paths of recipes begin in DIR"


def add_argument(parser: argparse.ArgumentParser, kind: Callable[[str], str] = local_path) -> None:
    """Adds the option, for `ingest.manifest.entries`."""
    parser.add_argument("--root", type=kind, metavar="DIR", help=HELP)
