"""The config of a run: parsed once (`objectives.parsed`), frozen, and what every function takes."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any, Literal, Protocol, get_args, get_type_hints

from jepa_speech.augment.distortions import DistortionConfig
from jepa_speech.augment.mixing import MixingConfig
from jepa_speech.batches.batch_plan import DataConfig
from jepa_speech.nn.masks import MaskConfig
from jepa_speech.nn.predictor import HeadConfig
from jepa_speech.nn.quantizer import QuantizerConfig
from jepa_speech.settings.training import MeshConfig, OptimConfig, TrainConfig
from jepa_speech.text.tokens import Tokens


class ObjectiveConfig(Protocol):
    """Config section `objective`, a dataclass of the objective's module; all else that it has is the module's."""

    name: str


@dataclass(frozen=True)
class AnchorConfig:
    """Config section `anchor`: the frozen mixture or k-means whose labels are predicted."""

    path: str = ""  # the file of `jepa-speech fit`, or several with weights: a.npz:1,b.npz:0.5
    # `stored`: labels of the store; `online`: labels computed in the step
    source: Literal["stored", "online"] = "stored"
    components: int = 0  # number of components; 0: as the file at `path` has. Otherwise both must agree [paper: K]
    features: str = ""  # features that the anchor takes; empty: as the file has
    normalize: str = ""  # normalisation of these features; empty: as the file has
    # of `online`: components kept of each posterior; the rest is one pooled class, as in `jepa-speech label`
    top_k: int = 16


@dataclass(frozen=True)
class Inputs:
    """What a run was trained on, as `train` found it: fingerprints, "" where there is none."""

    store: str = ""
    heldout: str = ""
    anchor: str = ""
    probe: str = ""


@dataclass(frozen=True)
class Imported:
    """Where an imported model comes from. no_texts: why its CTC layer was left out, "" if it was not."""

    folder: str = ""
    model_type: str = ""
    adapter: str = ""
    no_texts: str = ""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All sections, typed and checked. To change one, make another with `dataclasses.replace`.

    Which dataclass reads `encoder` is decided by its name, `objective` and `mixing` by the objective's. A section is
    None where the config has none; who needs it calls `present`.
    """

    seed: int = 0  # seeds weights, masks, crops and the order of recordings [fairseq: seed]
    # a run, or a folder that transformers wrote: training starts from its weights, all else is fresh; empty: none
    # [fairseq: finetune_from_model]
    init_from: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    anchor: AnchorConfig = field(default_factory=AnchorConfig)
    encoder: Any  # a dataclass of nn/build_encoder.py, or the objective's own
    head: HeadConfig | None = None
    mask: MaskConfig = field(default_factory=MaskConfig)
    mixing: MixingConfig | DistortionConfig = field(default_factory=MixingConfig)
    quantizer: QuantizerConfig | None = None
    objective: ObjectiveConfig
    vocabulary: Tokens | None = None
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    inputs: Inputs | None = None
    imported: Imported | None = None


# What reads each key, where neither the encoder's name nor the objective's decides it.
KINDS: dict[str, type] = {
    name: (get_args(kind) or (kind,))[0]
    for name, kind in get_type_hints(RunConfig).items()
    if name not in ("encoder", "objective")
}


def kinds_of(config: RunConfig) -> dict[str, type]:
    """The dataclass of each section that the config has."""
    return {name: type(section) for name, section in vars(config).items() if is_dataclass(section)}


def plain(config: RunConfig | Mapping[str, Any]) -> dict[str, Any]:
    """As JSON has it: dicts, lists, numbers, strings. Sections that a RunConfig lacks are left out."""
    if isinstance(config, RunConfig):
        config = {name: section for name, section in asdict(config).items() if section is not None}
    return json.loads(json.dumps(config, default=dict))


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every leaf."""
    for key, value in config.items():
        if hasattr(value, "items"):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
