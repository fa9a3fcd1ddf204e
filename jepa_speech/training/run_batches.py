"""The batches of a run: a plan of a store, read with the fields that the objective asks for."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from jepa_speech.batches.batch_plan import DataConfig, Plan, PlanItem, bucket_lengths
from jepa_speech.batches.fetch_ahead import FetchedAhead, SharedPlan
from jepa_speech.batches.joined_labels import stored_labels
from jepa_speech.batches.pipeline import Batches, batches, own_rows
from jepa_speech.batches.transcripts import Transcribed
from jepa_speech.batches.weighted_stores import Stores, stored_means
from jepa_speech.cloud.cache import Shard
from jepa_speech.config import present
from jepa_speech.errors import UserError
from jepa_speech.objective_parts.contract import HasTexts, Objective
from jepa_speech.path_lists import weighted_paths
from jepa_speech.settings.run_config import AnchorConfig, RunConfig
from jepa_speech.store.store import Store
from jepa_speech.training.used_lengths import heldout_lengths


def stream(
    objective: Objective,
    store: Store | Stores | Transcribed,
    plan: Plan,
    section: AnchorConfig,
    anchor: str,
    workers: int = 0,
    seconds: float = DataConfig.fetch_ahead,
) -> Callable[[int, int], Batches]:
    """(start, stop) -> this process's rows of those items of the plan, with what the objective asks for in a batch.

    section: `anchor` of the config; anchor: its fingerprint. seconds: how long before shards in a bucket are used they
    are fetched. Raises UserError where the store lacks its labels, or the
    means that it needs.
    """
    labels = means = None
    if not isinstance(store, Transcribed):
        labels = labels_of(store, anchor, section) if "anchor" in objective.batch_fields else None
        means = stored_means(store, section.features) if "anchor_mean" in objective.batch_fields else None
    process = jax.process_index(), jax.process_count()
    read = partial(
        batches,
        store,
        batch_fields=objective.batch_fields,
        process_index=process[0],
        process_count=process[1],
        workers=workers,
        labels=labels,
        means=means,
        texts=store if isinstance(store, Transcribed) else None,
    )
    if not store.remote:
        return lambda start, stop: read(plan, start=start, stop=stop)

    def fetched(start: int, stop: int) -> Batches:
        shared = plan if workers else SharedPlan(plan)  # worker processes compute their own items
        shards = partial(shards_of, store, shared, "mix" in objective.batch_fields, process)
        return FetchedAhead(read(shared, start=start, stop=stop), shards, start, stop, seconds)

    return fetched


def shards_of(
    store: Store | Stores | Transcribed, plan: Sequence[PlanItem], mixes: bool, process: tuple[int, int], i: int
) -> list[Shard]:
    """Returns the shards in a bucket that a process (its index, their count) reads for item i of a plan."""
    item = plan[i]
    mine = own_rows(item, *process)
    records = np.append(item.records[mine], item.mix[mine]) if mixes else item.records[mine]
    return store.in_bucket(records[records >= 0])


def heldout_stream(
    objective: Objective, store: Store | Stores | Transcribed, data: DataConfig, rows: int, config: RunConfig
) -> Callable[[], Batches]:
    """() -> this process's rows of one epoch of the held-out recordings, in the order of `jepa-speech evaluate`."""
    lengths = heldout_lengths(objective, data)
    plan = Plan(store.samples, data.buckets, data.batch_seconds, 0, rows, lengths=lengths)
    read = stream(objective, store, plan, config.anchor, present(config.inputs, "inputs").anchor)
    return lambda: read(0, plan.batches_per_epoch)


def usable(objective: Objective, store: Store | Stores, data: DataConfig) -> Store | Stores | Transcribed:
    """The recordings that the objective can use: all, or, where it asks for texts, whole ones that have one."""
    if "text" not in objective.batch_fields:
        return store
    assert isinstance(objective, HasTexts)
    return Transcribed(store, objective.vocabulary, int(bucket_lengths(data.buckets)[-1]))


def labels_of(store: Store | Stores, anchor: str, section: AnchorConfig) -> Any:
    """The stored labels by an anchor's fingerprint. Raises UserError for those of another number of components.

    section: `anchor` of the config.
    """

    files = weighted_paths(path, "anchor.path") if (path := section.path) else []
    labels = stored_labels(store, anchor, [path for path, _ in files])
    if labels.components != section.components:
        raise UserError(
            f"{store!r}: labels of {labels.components} components, and the anchor has {section.components}; "
            "remove them, and run `jepa-speech label` again"
        )
    return labels
