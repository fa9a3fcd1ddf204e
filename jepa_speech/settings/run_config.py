"""The typed, frozen config of a run. It is parsed once (`objectives.parsed`) and passed to every function."""

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
    """Config section `objective`: a dataclass of the objective's module, which has the other fields."""

    name: str


@dataclass(frozen=True)
class AnchorConfig:
    """Config section `anchor`: the frozen mixture or k-means whose labels are predicted."""

    path: str = ""  # the file of `jepa-speech fit`, or several with weights: a.npz:1,b.npz:0.5
    # `stored`: labels of the store; `online`: labels computed in the step
    source: Literal["stored", "online"] = "stored"
    components: int = 0  # number of components; 0: that of the file at `path`, else both must agree [paper: K]
    features: str = ""  # features of the anchor; empty: those of the file
    normalize: str = ""  # normalisation of these features; empty: that of the file
    # of `online`: components kept of each posterior; the rest is one pooled class, as in `jepa-speech label`
    top_k: int = 16


@dataclass(frozen=True)
class Inputs:
    """Fingerprints of a run's training data, found by `train`; "" if there is none."""

    store: str = ""
    heldout: str = ""
    anchor: str = ""
    probe: str = ""


@dataclass(frozen=True)
class Imported:
    """The origin of an imported model. no_texts: why its CTC layer was left out, "" if it was not."""

    folder: str = ""
    model_type: str = ""
    adapter: str = ""
    no_texts: str = ""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All sections, typed and checked. To change one, make a copy with `dataclasses.replace`.

    The name of the encoder determines the dataclass of `encoder`; the name of the objective those of `objective` and
    `mixing`. A section is None if the config lacks it; code that needs it calls `present`.
    """

    seed: int = 0  # seeds weights, masks, crops and the order of recordings [fairseq: seed]
    # a run, or a folder that transformers wrote: training starts from its weights, the rest is initialised as usual;
    # empty: none [fairseq: finetune_from_model]
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


# The dataclass of each section that depends neither on the encoder's name nor on the objective's.
KINDS: dict[str, type] = {
    name: (get_args(kind) or (kind,))[0]
    for name, kind in get_type_hints(RunConfig).items()
    if name not in ("encoder", "objective")
}


def kinds_of(config: RunConfig) -> dict[str, type]:
    """Returns the dataclass of each section that the config has."""
    return {name: type(section) for name, section in vars(config).items() if is_dataclass(section)}


def plain(config: RunConfig | Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config as JSON values: dicts, lists, numbers, strings. Missing sections are left out."""
    if isinstance(config, RunConfig):
        config = {name: section for name, section in asdict(config).items() if section is not None}
    return json.loads(json.dumps(config, default=dict))


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted key, value) of every leaf."""
    for key, value in config.items():
        if hasattr(value, "items"):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
