"""The lines that a run begins with."""

from collections.abc import Mapping
from typing import Any

import jax

from jepa_speech.batches.batch_plan import Plan
from jepa_speech.batches.buckets import better_buckets
from jepa_speech.batches.transcripts import Transcribed
from jepa_speech.batches.weighted_stores import Stores
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.ingest.lengths import in_words
from jepa_speech.objective_parts.contract import Objective
from jepa_speech.settings.run_config import RunConfig
from jepa_speech.store.store import Store
from jepa_speech.training.state import count_params
from jepa_speech.wording import counted, duration


def header(
    objective: Objective,
    config: RunConfig,
    store: Store | Stores | Transcribed,
    plan: Plan,
    left_out: Mapping[str, list[dict[str, Any]]],
) -> str:
    """What is about to be trained, on what, where, and which recordings are left out by their length."""
    params, _ = jax.eval_shape(objective.init, jax.random.PRNGKey(0))
    parts = ", ".join(f"{name} {count_params(tree) / 1e6:.2f}M" for name, tree in params.items())
    shapes = ", ".join(
        f"{rows} x {samples / 16_000:.1f} s"
        for rows, samples in zip(plan.padded_rows, plan.bucket_samples, strict=True)
    )
    device = jax.devices()[0]
    padding = f"padding {plan.padding_waste():.1%}"
    if better := better_buckets(plan, most=6):
        buckets, waste = better
        padding += f" ({waste:.1%} with --config.data.buckets={','.join(f'{s:g}' for s in buckets)})"
    mixture = f" ({store!r})" if isinstance(store, Stores) else ""
    texts = f"texts: {store.summary()}\n" if isinstance(store, Transcribed) else ""
    for name, found in left_out.items():
        texts += "".join(f"{'held out: ' * (name == 'heldout')}{in_words(one)}\n" for one in found)
    used = plan.used_samples
    processes = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    places = f"{jax.device_count()} x {device.device_kind} ({device.platform}){processes}"
    return (
        f"objective {config.objective.name}, encoder {config.encoder.name}, "
        f"{count_params(params) / 1e6:.2f}M parameters ({parts})\n"
        f"data: {counted(len(used), 'recording')}, {duration(float(used.sum()) / SAMPLE_RATE / 3600)}{mixture}; "
        f"{counted(plan.batches_per_epoch, 'step')} per epoch, "
        f"batches of {shapes}, {padding}\n{texts}"
        f"{counted(config.train.steps, 'step')} on {places}"
    )
