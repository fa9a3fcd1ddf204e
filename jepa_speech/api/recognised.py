"""Describe a path that is not a store, in one line that says what to do with it."""

from pathlib import Path

from jepa_speech.anchors.load import load_anchor
from jepa_speech.errors import UserError
from jepa_speech.files import read_json
from jepa_speech.ingest.inputs.folder import MANIFESTS
from jepa_speech.ingest.inputs.suffixes import SUFFIXES
from jepa_speech.training.checkpoint_steps import steps_of
from jepa_speech.training.run_json import config_of_a_run
from jepa_speech.wording import quoted

OF_STORES = ("store.json", "shards", "index", "work")
MANY = 20_000  # names of a folder that are looked at


def other_than_a_store(path: Path) -> str:
    """Returns what `path` holds and what to do with it; "" for a store, a part of one, or unknown contents."""
    if path.is_file():
        return _file(path)
    if not path.is_dir() or any((path / name).exists() for name in OF_STORES):
        return ""
    if (path / "config.json").is_file():
        return _with_config(path)
    if (path / "hubconf.py").is_file() and (path / "model").is_dir():
        return "an upstream folder for S3PRL, written by `jepa-speech export s3prl` (docs/export.md)"
    if (path / "export.json").is_file():
        return "a StableHLO program, written by `jepa-speech export stablehlo` (docs/export.md)"
    if path.name == "checkpoints" or path.parent.name == "checkpoints":
        run = path.parent if path.name == "checkpoints" else path.parent.parent
        return f"a checkpoint of the run {run}: run `jepa-speech inspect {quoted(run)}`"
    if (path / "meta.json").is_file() and (path / "blocks.bin").is_file():
        return _labels(path)
    return _of_names(path)


def _file(path: Path) -> str:
    name = path.name.lower()
    if name.endswith(".npz"):
        try:
            anchor = load_anchor(path)
        except UserError:
            return "an .npz file that is not an anchor, perhaps features that `jepa-speech embed` wrote"
        return (
            f"an anchor of {anchor.components} components in {anchor.features}: use it with `jepa-speech label --store "
            f"STORE --anchor {quoted(path)}`"
        )
    if name.endswith((*MANIFESTS, ".list", ".tar", ".parquet", *SUFFIXES)):
        return f"an input: make a store of it with `jepa-speech prepare --input {quoted(path)} --out STORE`"
    if name.endswith(".safetensors"):
        return f"the weights of a model: use its folder with `jepa-speech import hf {quoted(path.parent)} --out RUN`"
    return "a file: name a folder written by `jepa-speech prepare`"


def _with_config(path: Path) -> str:
    config = config_of_a_run(path / "config.json")
    if "model_type" in config:
        return (
            f"a model folder of transformers ({config['model_type']}): make a run of it with `jepa-speech import hf "
            f"{quoted(path)} --out RUN`"
        )
    objective, train = config.get("objective"), config.get("train")
    if not isinstance(objective, dict):
        return ""
    steps = steps_of(path)
    planned = train.get("steps") if isinstance(train, dict) else None
    return (
        f"a run folder: objective {objective.get('name')}, {f'step {max(steps)}' if steps else 'no checkpoint yet'} of "
        f"{planned}; {path / 'config.json'} has its config. See `jepa-speech goodput {quoted(path)}`, or `evaluate`, "
        "`probe`, `analyze` and `embed` with --checkpoint"
    )


def _labels(path: Path) -> str:
    meta = read_json(path / "meta.json")
    meta = meta if isinstance(meta, dict) else {}
    store = path.parent.parent
    return (
        f"the labels of anchor {str(meta.get('anchor'))[:12]}: {meta.get('components')} components, "
        f"{meta.get('frames')} frames; run `jepa-speech inspect {quoted(store)}` for their store"
    )


def _of_names(path: Path) -> str:
    found = []
    for inner in path.rglob("*"):
        found.append(inner.name.lower())
        if len(found) == MANY:
            break
    manifests = sum(name.endswith(MANIFESTS) for name in found)
    recordings = sum(name.endswith((*SUFFIXES, ".tar", ".parquet")) for name in found)
    if not manifests and not recordings:
        return ""
    what = [f"{count} {noun}" for count, noun in ((manifests, "manifests"), (recordings, "recordings")) if count]
    several = "or more " if len(found) == MANY else ""
    one = path / "NAME.jsonl" if manifests else path
    make = f"make a store of it with `jepa-speech prepare --input {quoted(one)} --out STORE`"
    return f"a folder of {several}{' and '.join(what)}: {make}"
