"""jepa-speech evaluate: a checkpoint's loss on recordings that it was not trained on."""

import argparse
import math
import sys
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from jepa_speech.batches.batch_plan import Plan
from jepa_speech.cli.step_option import add_step
from jepa_speech.errors import UserError
from jepa_speech.ingest.lengths import in_words
from jepa_speech.objective_parts.contract import HasTexts
from jepa_speech.pretrained.load import load_pretrained
from jepa_speech.store.store import Store
from jepa_speech.train.heldout import make_evaluate
from jepa_speech.train.run_batches import stream, usable
from jepa_speech.train.used_lengths import heldout_lengths
from jepa_speech.wording import counted

HELP = "the loss of a checkpoint on held-out recordings, term by term"
EXAMPLE = "jepa-speech evaluate --checkpoint runs/smoke --store heldout"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", required=True, metavar="RUN", help="run folder of `jepa-speech train`")
    add_step(parser)
    parser.add_argument(
        "--store", required=True, help="held-out recordings, prepared (and labelled, where it trains so)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the masks and crops (default 0)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """One epoch over the store, with the masks of training and its last schedules."""
    model = load_pretrained(options.checkpoint, options.step)
    if model.config.imported and isinstance(model.objective, HasTexts):
        raise UserError(
            f"{options.checkpoint}: an imported model, which has no config section data; score its texts with "
            f"`jepa-speech transcribe {options.checkpoint} --manifest FILE`"
        )
    if model.config.imported:
        raise UserError(
            f"{options.checkpoint}: an imported encoder, whose heads were never trained here, so it has no loss; "
            "evaluate a run that was trained from it (--config.init_from), or probe it"
        )
    data = model.config.data
    store = usable(model.objective, Store(options.store), data)
    lengths = heldout_lengths(model.objective, data)
    plan = Plan(store.samples, data.buckets, data.batch_seconds, options.seed, lengths=lengths)
    for found in lengths.left_out(store.samples, store.named):
        print(in_words(found))
    anchor = model.config.inputs.anchor if model.config.inputs else ""
    batches = stream(model.objective, store, plan, model.config.anchor, anchor)
    evaluate = make_evaluate(model.objective, jax.random.PRNGKey(options.seed))
    count = plan.batches_per_epoch
    bar = tqdm(batches(0, count), total=count, desc="evaluate", unit="batch", file=sys.stderr)
    results = evaluate(model.params, model.aux_state, model.step, bar)
    used, longest = plan.used_samples, plan.bucket_samples[-1]
    seconds = float(np.minimum(used, longest).sum()) / 16_000
    cropped = int((used > longest).sum())
    print(
        f"{options.checkpoint}, step {model.step}, "
        f"on {counted(len(used), 'recording')} of {options.store}, {seconds:.0f} s"
        + (f" ({cropped:,} of them cropped to {max(data.buckets):g} s)" if cropped else "")
    )
    for name, figure in results.items():
        if math.isfinite(figure):
            print(f"{name:<24}{figure:.5g}")
    if "lambda" in results:
        print(
            f"loss weighs its terms as step {model.step} does (lambda {results['lambda']:.3g}); compare runs by "
            "cluster, the held-out loss of docs/results.md"
        )
    return {"checkpoint": str(options.checkpoint), "step": model.step, "store": str(options.store)} | results
