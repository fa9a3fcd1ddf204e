"""jepa-speech transcribe: recordings → texts, by a run that was fine-tuned with CTC; scored, where texts are known."""

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from jepa_speech.api.transcribe import COUNTS, transcribe
from jepa_speech.cli import language_model
from jepa_speech.cli import root_option as root
from jepa_speech.cli.commands import arguments
from jepa_speech.cli.step_option import add_step
from jepa_speech.files import printable
from jepa_speech.local_paths import path_or_bucket
from jepa_speech.probing import bootstrap
from jepa_speech.wording import counted

HELP = (
    "what is said in recordings, by a run fine-tuned with CTC or a CTC model of transformers; with --manifest also the "
    "word and character error rate of the rows that have a text"
)
EXAMPLE = "jepa-speech transcribe runs/asr a.flac b.wav --out texts.jsonl"
NO_RATE = "n/a: every reference is empty, so there is no error rate"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint",
        type=path_or_bucket,
        metavar="RUN",
        help="run folder of a training with configs/finetune_ctc.py, or a folder of transformers with a CTC layer",
    )
    add_step(parser, default="the one that train.best kept, or else the newest")
    parser.add_argument(
        "audio", type=path_or_bucket, nargs="*", default=(), metavar="AUDIO", help="recordings, and folders of them"
    )
    parser.add_argument(
        "--manifest",
        type=path_or_bucket,
        metavar="INPUT",
        help="instead of files: an input of `prepare`; texts are scored",
    )
    root.add_argument(parser, path_or_bucket)
    parser.add_argument(
        "--out", type=path_or_bucket, metavar="FILE.jsonl", help="a row for each recording; resumes after a kill"
    )
    language_model.add_arguments(parser)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Texts alone go to stdout, and error rates."""
    results = transcribe(**arguments(options, transcribe), each=show, progress=True)
    if results["already_complete"]:
        done = "already complete, by this same command; remove the file to write it again"
        print(f"{options.out}: {done}", file=sys.stderr)
    for figure in COUNTS if results["scored"] else ():
        rate = bootstrap.estimate_of(results[figure])
        of = f"{rate} % over {counted(results['scored'], 'recording')} [95% interval over recordings]"
        print(f"{figure.upper()} {of if results[figure]['value'] is not None else NO_RATE}")
    return results


def show(row: Mapping[str, Any]) -> None:
    """Prints the hypothesis of a recording without a reference text, as soon as it is known."""
    if "text" not in row:
        print(printable(f"{row['audio_path']}\t{row['hypothesis']}"), flush=True)
