"""The loss of a checkpoint on recordings that it was not trained on."""

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from jepa_speech.batches.batch_plan import Plan
from jepa_speech.cloud.arguments import takes_buckets
from jepa_speech.errors import UserError
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.objective_parts.contract import HasTexts
from jepa_speech.pretrained.from_bucket import copied_model
from jepa_speech.pretrained.load import load_pretrained
from jepa_speech.store.store import Store
from jepa_speech.training.checkpoint_steps import Step
from jepa_speech.training.heldout import make_evaluate
from jepa_speech.training.run_batches import stream, usable
from jepa_speech.training.used_lengths import heldout_lengths
from jepa_speech.wording import quoted


@takes_buckets("store", checkpoint=copied_model)
def evaluate(
    checkpoint: str | Path,
    store: str | Path,
    *,
    step: Step | None = None,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, Any]:
    """Compute the loss of a run on one epoch of a store, with the masks of training and the schedules of its step.

    Args:
        checkpoint: the run folder.
        store: held-out recordings, prepared, and labelled if the run was trained on labels.
        step: which checkpoint: its step, "latest" (default) or "best".
        seed: of the masks and crops.
        progress: show a bar on stderr.

    Returns a dict: `checkpoint`, `step`, `store`, `recordings` (how many were used), `seconds` (of their crops),
    `cropped` (how many are longer than the longest crop), `longest_crop` (s), `left_out` (by their length: see
    `Lengths.left_out`), `loss`, each term of it by its name, and the figures of the objective's report.

    Raises UserError if the folder or the store cannot be read, labels are missing, or the model is an imported one,
    which has no loss. Raises UsageError if no recording can be used.
    """
    model = load_pretrained(checkpoint, step)
    if model.config.imported and isinstance(model.objective, HasTexts):
        raise UserError(
            f"{checkpoint}: an imported model, which has no config section data; score its texts with "
            f"`jepa-speech transcribe {quoted(checkpoint)} --manifest FILE`"
        )
    if model.config.imported:
        raise UserError(
            f"{checkpoint}: an imported encoder, whose heads were never trained here, so it has no loss; "
            "evaluate a run that was trained from it (--config.init_from), or probe it"
        )
    data = model.config.data
    opened = usable(model.objective, Store(store), data)
    lengths = heldout_lengths(model.objective, data)
    plan = Plan(opened.samples, data.buckets, data.batch_seconds, seed, lengths=lengths)
    anchor = model.config.inputs.anchor if model.config.inputs else ""
    batches = stream(model.objective, opened, plan, model.config.anchor, anchor)
    compute = make_evaluate(model.objective, jax.random.PRNGKey(seed))
    count = plan.batches_per_epoch
    bar = tqdm(batches(0, count), disable=not progress, total=count, desc="evaluate", unit="batch", file=sys.stderr)
    figures = compute(model.params, model.aux_state, model.step, bar)
    used, longest = plan.used_samples, plan.bucket_samples[-1]
    return {
        "checkpoint": str(checkpoint),
        "step": model.step,
        "store": str(store),
        "recordings": len(used),
        "seconds": float(np.minimum(used, longest).sum()) / SAMPLE_RATE,
        "cropped": int((used > longest).sum()),
        "longest_crop": max(data.buckets),
        "left_out": lengths.left_out(opened.samples, opened.named),
    } | figures
