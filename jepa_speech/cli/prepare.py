"""`jepa-speech prepare`: recordings → store."""

import argparse
import sys
from typing import Any

from jepa_speech.api.prepare import check_inputs, prepare
from jepa_speech.cli import root_option as root
from jepa_speech.cli.cluster_option import add_cluster, run_parts_of
from jepa_speech.cli.commands import arguments
from jepa_speech.cli.part_option import add_part
from jepa_speech.cli.store_figures import in_words, print_figures
from jepa_speech.errors import UsageError, UserError
from jepa_speech.ingest.audio import CODECS
from jepa_speech.ingest.inputs.passed_over import sentences
from jepa_speech.local_paths import path_or_bucket
from jepa_speech.store.chunks import SHARD_MB
from jepa_speech.wording import counted, duration, quoted

HELP = "turn folders, manifests and archives of recordings into a store"
EXAMPLE = "jepa-speech prepare --input recordings/ --out stores/mine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--input",
        type=path_or_bucket,
        dest="inputs",
        nargs="+",
        required=True,
        metavar="INPUT",
        help="folders of recordings (wav, flac, ogg, mp3, sph, aiff and others), JSON lines (also of NeMo, Lhotse and "
        "WeNet), tables (Common Voice, SpeechBrain, metadata.csv), fairseq's .tsv, Kaldi and ESPnet directories, tar, "
        "parquet; docs/manifests.md has a table of all kinds",
    )
    root.add_argument(parser, path_or_bucket)
    parser.add_argument("--out", type=path_or_bucket, metavar="STORE", help="a new folder; the same command resumes")
    parser.add_argument(
        "--check",
        nargs="?",
        const="headers",
        choices=("headers", "full"),
        help="write nothing: list all, open each (full: decode it, too), name the first that is bad",
    )
    parser.add_argument("--codec", choices=CODECS, default="flac", help="pcm16 reads faster and is twice as large")
    parser.add_argument(
        "--shard-mb",
        type=float,
        default=SHARD_MB,
        metavar="MB",
        help=f"size of a shard, in MB of the inputs' files (default: {SHARD_MB})",
    )
    add_part(parser)
    add_cluster(parser)
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one per core)")
    parser.add_argument(
        "--max-reject-fraction",
        type=float,
        default=0.01,
        metavar="F",
        help="more unusable recordings than this are an error (default: 0.01)",
    )

    parser.add_argument(
        "--min-seconds",
        type=float,
        default=0.0,
        metavar="S",
        help="reject shorter recordings (too_short), without counting them in --max-reject-fraction",
    )
    parser.add_argument(
        "--max-seconds", type=float, default=0.0, metavar="S", help="the same for longer ones (too_long)"
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    if options.check:
        return check_only(options)
    if not options.out:
        raise UsageError("--out STORE is missing (or ask for --check)")
    run_parts_of("prepare", options, prepare)
    results = prepare(**arguments(options, prepare), progress=sys.stderr.isatty())
    if not results["whole"]:
        held = f"{counted(results['shards'], 'shard')} of {counted(results['read'], 'recording')}"
        done = f"part {results['part']} is written: {held}"
        print(f"{results['store']}: {done}; once all are, run `jepa-speech inspect {quoted(results['store'])} --merge`")
        return results
    print_figures(results)
    print(f"labels: {in_words(results['fields'])}")
    return results


def check_only(options: argparse.Namespace) -> dict[str, Any]:
    """Prints the totals of the inputs; raises UserError, naming the first bad line, if there is one."""
    chosen = arguments(options, check_inputs)
    results = check_inputs(**chosen, full=options.check == "full", progress=sys.stderr.isatty())
    reasons = "".join(f", {count} {reason}" for reason, count in sorted(results["reasons"].items()))
    decoded = "all decoded" if results["decoded"] else "only headers were read: --check full decodes, too"
    good = f"{results['good']} good ({duration(results['hours'])})"
    print(f"{counted(results['read'], 'recording')}: {good}{reasons}; {decoded}")
    for line in sentences(results["passed_over"]):
        print(line)
    if results["first_bad"]:
        raise UserError(results["first_bad"], results)
    return results
