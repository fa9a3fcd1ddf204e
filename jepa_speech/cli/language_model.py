"""The options of a beam search with a language model, for the verbs that write texts."""

import argparse

from jepa_speech.local_paths import local_path
from jepa_speech.text.beam import Beam


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--lm",
        type=local_path,
        metavar="FILE.arpa",
        help="search with this n-gram language model; needs the extra [lm]",
    )
    parser.add_argument("--beam", type=int, default=Beam.size, metavar="N", help="hypotheses kept (%(default)s)")
    parser.add_argument("--lm-weight", type=float, default=Beam.lm_weight, help="of log10 P (%(default)s)")
    parser.add_argument("--word-score", type=float, default=Beam.word_score, help="added for each word (%(default)s)")
