"""Train an encoder, or resume a run."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax

from jepa_speech.analysis.during_training import Labelled, Probe, fingerprint, from_folder, from_store
from jepa_speech.anchors.ensemble import open_anchors
from jepa_speech.batches.batch_plan import Plan
from jepa_speech.batches.fetch_ahead import too_small
from jepa_speech.batches.transcripts import Transcribed
from jepa_speech.batches.weighted_stores import Stores, open_stores, shares
from jepa_speech.cloud.arguments import takes_buckets
from jepa_speech.config import present
from jepa_speech.errors import UsageError
from jepa_speech.objective_parts.contract import Objective
from jepa_speech.objectives import build
from jepa_speech.pretrained.init_from import weights_of
from jepa_speech.progress import say_if
from jepa_speech.settings.run_config import Inputs, RunConfig
from jepa_speech.store.store import Store
from jepa_speech.training import loop
from jepa_speech.training.configfile import Overrides, run_config_of
from jepa_speech.training.distributed import connected
from jepa_speech.training.header import header
from jepa_speech.training.resolve import with_anchor, with_characters, with_exact_paths
from jepa_speech.training.run_batches import heldout_stream, labels_of, stream, usable
from jepa_speech.training.run_in_bucket import Upload, local_run
from jepa_speech.training.used_lengths import heldout_lengths, training_lengths


@takes_buckets("workdir")
def train(
    config: RunConfig | str | Path,
    workdir: str | Path,
    *,
    overrides: Overrides = (),
    from_step: int | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Train by a config in a run folder, from the newest checkpoint if the folder has one.

    config: a RunConfig, or what `load_config` opens: a file or a name such as "smoke:hubert".
    workdir: the run folder, new or to resume; its URL if it is in a bucket.
    overrides: keys of the config to change, as for `load_config`; only if `config` is a file or a name.
    from_step: resume from this checkpoint; newer ones are kept in `workdir`/aside.
    progress: show a header, a line for every compiled step and a bar on stderr.

    Returns `step`; `finished_before`, whether there was nothing to do; `compiled`, how many shapes the step was
    compiled for; and the metrics of the last step.

    Raises UsageError for a config that cannot be used, and UserError for inputs that cannot be read, a run that
    diverged, or a folder of another run. Raises Interrupted once SIGINT, SIGTERM or SIGUSR1 came and the state is
    saved: the same call resumes.
    """
    name = "" if isinstance(config, RunConfig) else str(config)
    config = run_config_of(config, overrides)
    with connected(), local_run(workdir, from_step) as (folder, upload):  # before jax looks for devices
        return run_config(config, folder, from_step, name, progress, upload)


def run_config(
    config: RunConfig,
    workdir: Path,
    from_step: int | None,
    name: str,
    progress: bool,
    upload: Upload | None = None,
) -> dict[str, Any]:
    """Open the inputs of a config, check them, and train.

    name: of the config, "" if it has none. upload: of a run folder in a bucket (see `loop.train`). The other arguments
    and the results are those of `train`.
    """
    data, settings = config.data, config.train
    if not data.store:
        raise UsageError("no store to train on: pass --config.data.store=STORE, as `jepa-speech prepare` wrote it")
    if data.probe and not settings.probe_every:
        raise UsageError(
            f"config key data.probe = {data.probe!r} is read only by probes: set train.probe_every as well, such as "
            "--config.train.probe_every=1000"
        )
    stores = open_stores(data.store)
    anchor = open_anchors(config.anchor.path) if config.anchor.path else None
    config = with_characters(with_anchor(config, anchor), stores)
    objective = build(config, anchor)
    store = usable(objective, stores, data)
    heldout = usable(objective, open_stores(data.heldout, "data.heldout"), data) if data.heldout else None
    labelled = from_folder(data.probe, objective.min_samples) if data.probe else {}
    inputs = Inputs(
        store=store.fingerprint,
        heldout=heldout.fingerprint if heldout else "",
        anchor=anchor.fingerprint if anchor else "",
        probe=fingerprint(labelled) if labelled else "",
    )
    say = say_if(progress and jax.process_index() == 0)
    config = replace(with_exact_paths(config, say), inputs=inputs)
    if stores.remote and (line := too_small(stores)):
        say(line)

    rows = jax.device_count() * settings.accumulate
    lengths = training_lengths(objective, data)
    layout = data.buckets, data.batch_seconds, config.seed, rows, shares(store), data.windows, lengths
    plan = Plan(store.samples, *layout)
    left_out = {"store": lengths.left_out(store.samples, store.named)}
    if heldout:
        left_out["heldout"] = heldout_lengths(objective, data).left_out(heldout.samples, heldout.named)
    read = stream(objective, store, plan, config.anchor, inputs.anchor, data.workers, data.fetch_ahead)
    heldout_batches = heldout_stream(objective, heldout, data, rows, config) if heldout else None
    probe = probe_of(objective, heldout or store, labelled, config) if settings.probe_every else None
    about = header(objective, config, store, plan, left_out) if progress else ""
    about = f"{name}: {about}" if name else about
    notes = {"left_out": left_out} if any(left_out.values()) else {}
    adapter = getattr(config.objective, "adapter", None)
    weights = partial(weights_of, vocabulary=getattr(objective, "vocabulary", None), adapter=adapter)
    return loop.train(
        config,
        objective,
        read,
        workdir,
        heldout_batches,
        weights,
        from_step,
        about,
        notes,
        progress=progress,
        probe=probe,
        upload=upload,
    )


def probe_of(objective: Objective, store: Store | Stores | Transcribed, labelled: Labelled, config: RunConfig) -> Probe:
    """The probe of `train.probe_every`: of recordings of the store, and of labelled ones if there are any."""
    labels = None
    if "anchor" in objective.batch_fields and not isinstance(store, Transcribed):
        labels = labels_of(store, present(config.inputs, "inputs").anchor, config.anchor)
    return Probe(objective, config.mesh, from_store(store, labels, objective.min_samples), labelled)
