"""What a config leaves open, taken from the files that it names: the anchor, the texts of the store, exact paths."""

from dataclasses import replace
from typing import Any

from jepa_speech.anchors.anchor import Anchor
from jepa_speech.anchors.ensemble import Ensemble
from jepa_speech.batches.transcripts import characters
from jepa_speech.batches.weighted_stores import Stores
from jepa_speech.errors import UsageError
from jepa_speech.path_lists import as_text, weighted_paths
from jepa_speech.progress import Say
from jepa_speech.settings.run_config import RunConfig
from jepa_speech.store.store import Store


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
            f"anchor.source = online, but {section.path} was fitted to {anchor.features} of a checkpoint: "
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


def with_exact_paths(config: RunConfig, say: Say) -> RunConfig:
    """The config with its paths written so that they have the same meaning where no such file exists.

    say: called with a line if a text may have been meant as a path alone.
    """
    data, anchor = config.data, config.anchor
    store, heldout = exact(data.store, "data.store", say), exact(data.heldout, "data.heldout", say)
    path = exact(anchor.path, "anchor.path", say)
    return replace(config, data=replace(data, store=store, heldout=heldout), anchor=replace(anchor, path=path))


def exact(text: str, key: str, say: Say) -> str:
    """The paths and weights of one key: see `with_exact_paths`."""
    if not text:
        return ""
    paths = weighted_paths(text, key)
    if len(paths) == 1 and paths[0][1] != 1 and '"' not in text:
        path, weight = paths[0]
        say(f"{key} = {text!r} is read as the path {path} with weight {weight:g}")
    return as_text(paths)
