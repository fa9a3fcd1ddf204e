"""jepa-speech train: one config, one run folder; the same command goes on where it stopped."""

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax

from jepa_speech.anchors.anchor import Anchor
from jepa_speech.anchors.ensemble import Ensemble, open_anchors
from jepa_speech.batches.batch_plan import DataConfig, Plan, bucket_lengths
from jepa_speech.batches.buckets import better_buckets
from jepa_speech.batches.joined_labels import stored_labels
from jepa_speech.batches.pipeline import Batches, batches
from jepa_speech.batches.transcripts import Transcribed, characters
from jepa_speech.batches.weighted_stores import Stores, open_stores, shares, stored_means
from jepa_speech.cli.used_lengths import heldout_lengths, training_lengths
from jepa_speech.config import present
from jepa_speech.errors import UsageError, UserError
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.huggingface.imported import read_imported
from jepa_speech.huggingface.weights import has_weights
from jepa_speech.ingest.lengths import in_words
from jepa_speech.objective_parts.contract import HasTexts, Objective
from jepa_speech.objectives import build, parsed
from jepa_speech.objectives.ctc import CtcConfig, vocabulary_of
from jepa_speech.path_lists import as_text, weighted_paths
from jepa_speech.settings.run_config import AnchorConfig, Inputs, RunConfig
from jepa_speech.store.store import Store
from jepa_speech.text.tokens import Tokens
from jepa_speech.train.checkpoint import by_path, read_weights
from jepa_speech.train.checkpoint_steps import located
from jepa_speech.train.configfile import load_config
from jepa_speech.train.distributed import connected
from jepa_speech.train.loop import train
from jepa_speech.train.run_json import config_of_a_run
from jepa_speech.train.state import count_params
from jepa_speech.wording import counted, duration

HELP = "train an encoder, or go on with a run"
EXAMPLE = (
    "jepa-speech train --config configs/smoke.py --workdir runs/smoke "
    "--config.data.store=STORE --config.anchor.path=GMM.npz"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        required=True,
        metavar="FILE[:VARIANT]",
        help="such as configs/smoke.py, or smoke for the package's own",
    )
    parser.add_argument("--workdir", required=True, metavar="RUN", help="the run folder, new or to go on with")
    parser.add_argument(
        "--from-step",
        type=int,
        metavar="N",
        help="go on from checkpoint N, not from the newest; what is newer is kept in RUN/aside (docs/training.md)",
    )
    parser.description = (
        f"{parser.description}; --config.KEY=VALUE changes a key of the config, tuples are written 4.0,8.0"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    config = load_config(args.config, args.overrides)
    with connected():  # before jax looks for devices
        return run_config(config, args.workdir, args.from_step, name=args.config)


def run_config(config: RunConfig, workdir: str, from_step: int | None, name: str) -> dict[str, Any]:
    """Trains by the config called `name`; returns what `train` does."""
    data, settings = config.data, config.train
    if not data.store:
        raise UsageError("no store to train on: pass --config.data.store=STORE, as `jepa-speech prepare` wrote it")
    stores = open_stores(data.store)
    anchor = open_anchors(config.anchor.path) if config.anchor.path else None
    config = with_characters(with_anchor(config, anchor), stores)
    objective = build(config, anchor)
    store = usable(objective, stores, data)
    heldout = usable(objective, open_stores(data.heldout, "data.heldout"), data) if data.heldout else None
    inputs = Inputs(
        store=store.fingerprint,
        heldout=heldout.fingerprint if heldout else "",
        anchor=anchor.fingerprint if anchor else "",
    )
    # Paths are written so that the text has the same meaning where no such file exists.
    config = replace(
        config,
        data=replace(data, store=exact(data.store, "data.store"), heldout=exact(data.heldout, "data.heldout")),
        anchor=replace(config.anchor, path=exact(config.anchor.path, "anchor.path")),
        inputs=inputs,
    )

    devices = jax.device_count()
    rows = devices * settings.accumulate
    lengths = training_lengths(objective, data)
    layout = data.buckets, data.batch_seconds, config.seed, rows, shares(store), data.windows, lengths
    plan = Plan(store.samples, *layout)
    left_out = {"store": lengths.left_out(store.samples, store.named)}
    if heldout:
        left_out["heldout"] = heldout_lengths(objective, data).left_out(heldout.samples, heldout.named)
    read = stream(objective, store, plan, config.anchor, inputs.anchor, data.workers)
    heldout_batches = heldout_stream(objective, heldout, data, rows, config) if heldout else None
    first = jax.process_index() == 0
    about = f"{name}: {header(objective, config, store, plan, left_out)}" if first else ""
    notes = {"left_out": left_out} if any(left_out.values()) else {}
    adapter = getattr(config.objective, "adapter", None)
    weights = partial(weights_of, vocabulary=getattr(objective, "vocabulary", None), adapter=adapter)
    results = train(config, objective, read, workdir, heldout_batches, weights, from_step, about, notes)
    if results["finished_before"] and first:
        print(f"{workdir} is finished: step {results['step']} of {settings.steps}; nothing to do")
    return results


def stream(
    objective: Objective,
    store: Store | Stores | Transcribed,
    plan: Plan,
    section: AnchorConfig,
    anchor: str,
    workers: int = 0,
) -> Callable[[int, int], Batches]:
    """(start, stop) -> this process's rows of those items of the plan, with what the objective asks for in a batch.

    section: `anchor` of the config; anchor: its fingerprint. Raises UserError where the store lacks its labels, or the
    means that it needs.
    """
    labels = means = None
    if not isinstance(store, Transcribed):
        labels = labels_of(store, anchor, section) if "anchor" in objective.batch_fields else None
        means = stored_means(store, section.features) if "anchor_mean" in objective.batch_fields else None
    return partial(
        batches,
        store,
        plan,
        objective.batch_fields,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        workers=workers,
        labels=labels,
        means=means,
        texts=store if isinstance(store, Transcribed) else None,
    )


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


def weights_of(
    source: str, vocabulary: Tokens | None = None, adapter: tuple[Any, ...] | None = None
) -> tuple[int, dict[str, Any]]:
    """Step and arrays by path of what `init_from` names: a run, or a folder that transformers wrote.

    vocabulary, adapter: of a model that writes texts (`CtcConfig.adapter`). A run's CTC layer for another vocabulary or
    on another adapter is left out.
    """
    if not has_weights(source):
        step, arrays = read_weights(source)
        theirs = parsed(config_of_a_run(located(source)[0] / "config.json"))
        objective = theirs.objective
        if (
            vocabulary
            and isinstance(objective, CtcConfig)
            and (vocabulary_of(theirs), objective.adapter) != (vocabulary, adapter)
        ):
            arrays = {name: x for name, x in arrays.items() if not name.startswith("params/head/")}
        return step, arrays
    _, imported = read_imported(source)
    return 0, by_path({"params": {"encoder": imported.encoder} | imported.extra})


def usable(objective: Objective, store: Store | Stores, data: DataConfig) -> Store | Stores | Transcribed:
    """The recordings that the objective can use: all, or, where it asks for texts, whole ones that have one."""
    if "text" not in objective.batch_fields:
        return store
    assert isinstance(objective, HasTexts)
    return Transcribed(store, objective.vocabulary, int(bucket_lengths(data.buckets)[-1]))


def heldout_stream(
    objective: Objective, store: Store | Stores | Transcribed, data: DataConfig, rows: int, config: RunConfig
) -> Callable[[], Batches]:
    """() -> this process's rows of one epoch of the held-out recordings, in the order of `jepa-speech evaluate`."""
    lengths = heldout_lengths(objective, data)
    plan = Plan(store.samples, data.buckets, data.batch_seconds, 0, rows, lengths=lengths)
    read = stream(objective, store, plan, config.anchor, present(config.inputs, "inputs").anchor)
    return lambda: read(0, plan.batches_per_epoch)


def with_anchor(config: RunConfig, anchor: Anchor | Ensemble | None) -> RunConfig:
    """The config with what it leaves open taken from the anchor's file; raises UsageError where they disagree."""
    section = config.anchor
    if anchor is None:
        if section.components:
            raise UsageError("anchor.components is set without an anchor: pass --config.anchor.path=GMM.npz")
        return config
    for key in ("components", "features", "normalize"):
        found = getattr(anchor, key)
        asked = getattr(section, key)
        if asked and asked != found:
            raise UsageError(
                f"anchor.{key} = {asked!r}, but {section.path} has {found!r}: "
                f"leave anchor.{key} out, or fit an anchor with it"
            )
        section = replace(section, **{key: found})
    if isinstance(anchor, Ensemble):
        if section.source == "online":
            raise UsageError("anchor.source = online takes one anchor: label the store by each, or name one of them")
        return replace(config, anchor=section)  # how much is kept of a posterior, the labels say
    if anchor.checkpoint_fingerprint and section.source == "online":
        raise UsageError(
            f"anchor.source = online, but {section.path} lives in {anchor.features} of a checkpoint: "
            "label the store, and set anchor.source = stored"
        )
    if anchor.max_top_k == 1:
        section = replace(section, top_k=1)  # k-means: there is nothing to choose
    if section.top_k > anchor.max_top_k:
        raise UsageError(f"anchor.top_k = {section.top_k}, but {section.path} has {anchor.components} components")
    return replace(config, anchor=section)


def with_characters(config: RunConfig, store: Store | Stores) -> RunConfig:
    """The config with the characters of the store's texts, where its objective writes and it leaves them open."""
    objective: Any = config.objective
    if getattr(objective, "characters", None) != "" or config.vocabulary:
        return config
    return replace(config, objective=replace(objective, characters=characters(store)))


def exact(text: str, key: str) -> str:
    """The paths and weights of a key, written so that the text has the same meaning where no such file exists."""
    if not text:
        return ""
    paths = weighted_paths(text, key)
    if len(paths) == 1 and paths[0][1] != 1 and '"' not in text and jax.process_index() == 0:
        path, weight = paths[0]
        print(f"{key} = {text!r} is read as the path {path} with weight {weight:g}", file=sys.stderr)
    return as_text(paths)


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
    texts = f"texts: {store.told()}\n" if isinstance(store, Transcribed) else ""
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
