"""jepa-speech train: one config, one run folder; the same command resumes the run."""

import argparse
from typing import Any

import jax

from jepa_speech.api.train import train
from jepa_speech.local_paths import local_path, path_or_bucket

HELP = "train an encoder, or resume a run"
EXAMPLE = (
    "jepa-speech train --config configs/smoke.py --workdir runs/smoke "
    "--config.data.store=STORE --config.anchor.path=GMM.npz"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=local_path,
        required=True,
        metavar="FILE[:VARIANT]",
        help="such as configs/smoke.py, or smoke for the package's own",
    )
    parser.add_argument(
        "--workdir", type=path_or_bucket, required=True, metavar="RUN", help="the run folder, new or to resume"
    )
    parser.add_argument(
        "--from-step",
        type=int,
        metavar="N",
        help="resume from checkpoint N, not from the newest; newer ones are kept in RUN/aside (docs/training.md)",
    )
    parser.description = (
        f"{parser.description}; --config.KEY=VALUE changes a key of the config, tuples are written 4.0,8.0"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    results = train(args.config, args.workdir, overrides=args.overrides, from_step=args.from_step, progress=True)
    if results["finished_before"] and jax.process_index() == 0:
        print(f"{args.workdir} is finished: step {results['step']}; nothing to do")
    return results
