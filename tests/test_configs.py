"""Every file in configs/ builds, in all its variants; the small ones trace, and published sizes are as published."""

import ast
import dataclasses
import json
import re
import shutil
import sys

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from support import pages, toys
from support.toys import build

from jepa_speech.errors import UsageError
from jepa_speech.features.grid import HOP, WINDOW
from jepa_speech.nn.encoder import EncoderConfig
from jepa_speech.nn.predictor import HeadConfig
from jepa_speech.objectives import parsed
from jepa_speech.objectives.gmm_jepa import GmmJepaConfig
from jepa_speech.settings.run_config import RunConfig, flat, kinds_of, plain
from jepa_speech.store.checksums import sealed
from jepa_speech.training import configfile, run_json
from jepa_speech.training.configfile import config_dict, load_config
from jepa_speech.training.run_json import MAY_DIFFER
from jepa_speech.training.state import count_params

SMALL = [
    "gmm_jepa",
    "pure_jepa",
    "anchor_alone",
    "gmm_jepa_sigreg",
    "sigreg_jepa",
    "hubert",
    "wavlm",
    "wav2vec2",
    "data2vec",
    "data2vec2",
    "dinosr",
    "s_jepa",
    "best_rq",
    "w2v_bert",
    "pase",
    "pase_plus",
]
NAMES = [path.stem for path in sorted(toys.CONFIGS.glob("*.py")) if path.stem != "base"]
PUBLISHED = [*NAMES, "hubert:large", "hubert:xlarge", "wavlm:large", "wav2vec2:large", "w2v_bert:xxl"]
PUBLISHED += ["wav2vec2:conformer", "w2v_bert:v2", "s_jepa:phase1", "best_rq:base", "half_hour:wavlm"]
OF_PAPERS = [name for name in NAMES if "\nPaper:" in (toys.CONFIGS / f"{name}.py").read_text(encoding="utf-8")]
CONFIG = re.compile(r"`(\w+)\.py")


def built(name: str):
    file, _, variant = name.partition(":")
    config = config_dict(str(toys.CONFIGS / f"{file}.py") + (f":{variant}" if variant else ""), [])
    if config.objective.get("lambda_start", 1) and config.objective.name in ("gmm_jepa", "hubert"):
        config.anchor.update(
            components=1024 if config.objective.name == "gmm_jepa" else 504, features="logmel", normalize="level"
        )
    return build(config)


def sizes(name: str) -> dict[str, float]:
    params, _ = jax.eval_shape(built(name).init, jax.random.PRNGKey(0))
    return {part: count_params(tree) for part, tree in params.items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_config_builds(name):
    assert built(name).frame_rate in (25.0, 50.0, 100.0)


def test_every_config_in_the_table_of_the_objectives_names_its_paper():
    listed = {name for row in re.findall(r"(?m)^\| .*$", pages.text("objectives.md")) for name in CONFIG.findall(row)}
    assert {"gmm_jepa", "hubert", "finetune_ctc"} < listed <= set(OF_PAPERS)


@pytest.mark.parametrize("name", OF_PAPERS)
def test_a_published_config_states_its_paper_its_time_and_its_launch_line(name):
    """tests/test_docs.py parses the launch line."""
    text = ast.get_docstring(ast.parse((toys.CONFIGS / f"{name}.py").read_text(encoding="utf-8")))
    parts = re.search(r"\n\nPaper: (.+?)\nTime: (.+?)\nLaunch:\n\n    jepa-speech train --config (\w+)", text, re.S)
    assert parts, "the docstring needs the lines Paper:, Time: and Launch:, in this order"
    paper, time, launched = (" ".join(part.split()) for part in parts.groups())
    assert re.match(r"arXiv \d{4}\.\d{5}", paper)
    assert re.search(r"tables are not checked|table \d|section \d", paper)
    assert launched == name
    says = extrapolated(name)
    assert time.startswith("not yet run as a whole" + (f". {says}" if says else ", and no step is measured."))


def extrapolated(name: str) -> str:
    """The time that a config's steps take at the newest measured rate of a step; empty if there is none."""
    for file in ("benchmarks/gpu_again.json", "benchmarks/gpu.json"):
        measured = json.loads((toys.CONFIGS.parent / file).read_text(encoding="utf-8"))["programs"].get(f"ours {name}")
        if measured:
            config, rate = config_dict(name), measured["audio_seconds_per_second"]
            steps, seconds = config.train.steps, config.data.batch_seconds
            hours = steps * seconds / rate / 3600
            duration = f"{hours:.0f} h" if hours >= 1 else f"{60 * hours:.0f} min"
            says = f"One H200 trains on {rate:,.0f} s of audio per second ({file}), which extrapolates to {duration}"
            return f"{says} for {steps:,} steps of {seconds:,.0f} s."
    return ""


@pytest.mark.parametrize("name", [*NAMES, "base"])
def test_a_config_alone_in_another_folder_is_the_same(name, tmp_path, monkeypatch):
    path, before = tmp_path / "mine.py", sys.path.copy()
    shutil.copy(toys.CONFIGS / f"{name}.py", path)
    assert plain(config_dict(str(path))) == plain(config_dict(f"{toys.CONFIGS}/{name}.py"))
    assert sys.path == before and "base" not in sys.modules
    if name != "base":  # a package that has lost its configs
        monkeypatch.setattr(configfile, "OURS", tmp_path / "configs")
        with pytest.raises(
            UsageError, match=r"mine.py:\d+: ModuleNotFoundError: .* copy the configs that this one imports"
        ):
            config_dict(str(path))


def test_base_is_the_defaults_but_for_what_the_published_training_has():
    published = {"encoder.dtype": "bfloat16", "mixing.utterance": 0.25, "mixing.noise": 0.25}
    defaults = RunConfig(encoder=EncoderConfig(), head=HeadConfig(), objective=GmmJepaConfig())
    assert dict(flat(plain(config_dict("base")))) == dict(flat(plain(defaults))) | published


def test_a_config_is_frozen_and_no_key_of_it_is_unread():
    config = load_config("smoke:hubert")
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.encoder.width = 3
    with pytest.raises(UsageError, match=r"unknown config key encodre: did you mean encoder"):
        parsed(plain(config) | {"encodre": {}})
    with pytest.raises(UsageError, match=r"unknown config key head.widht: did you mean head.width"):
        parsed(plain(config) | {"head": {"widht": 3}})  # hubert has no use for this section
    assert parsed(plain(config)) == config


@pytest.mark.parametrize("name", ["tiny", "smoke:hubert", "finetune_ctc"])
def test_a_name_means_the_config_of_the_package_wherever_one_stands(name, tmp_path, monkeypatch):
    file, colon, variant = name.partition(":")
    monkeypatch.chdir(tmp_path)
    (tmp_path / file).mkdir()  # a run of this name, say
    assert plain(config_dict(name)) == plain(config_dict(f"{toys.CONFIGS}/{file}.py{colon}{variant}"))


def test_a_config_of_a_user_that_imports_an_older_name_keeps_working(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text("from jepa_speech.train.configfile import config_of_a_run\nfrom tiny import get_config\n")
    assert load_config(str(file)) == load_config("tiny")
    assert "jepa_speech.train.configfile is named jepa_speech.training.configfile now" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("smok", "smok: no config has this name; there are base, .*smoke, tiny.*; a file is smok.py"),
        ("smok:hubert", "smok: no config has this name"),
        ("smoke:huber", "unknown variant 'huber'"),
        ("smoke.py", "smoke.py: no such config file; found: none here; by name base, "),
    ],
)
def test_a_name_that_no_config_has(name, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=says):
        config_dict(name)


def test_a_run_older_than_any_key_of_its_config_goes_on(tmp_path):
    config = config_dict(f"{toys.CONFIGS}/tiny.py")
    config.anchor.components = 8
    sections = kinds_of(toys.typed(config))
    for key, value in run_json.defaults(sections).items():
        section, _, name = key.partition(".")
        if name in config.get(section, {}):
            config[section][name] = tuple(value) if isinstance(value, list) else value
    config.inputs = {"store": "abc", "heldout": "", "anchor": ""}
    keys = {key for key, _ in flat(config)} - {"seed", "inputs.store"}
    assert {"data.min_seconds", "init_from", "inputs.heldout", "encoder.dropout", "mesh.fsdp"} < keys
    (tmp_path / "checkpoints" / "20").mkdir(parents=True)
    for key in sorted(keys):
        old = plain(config)
        section, _, name = key.rpartition(".")
        del (old[section] if section else old)[name]
        (tmp_path / "config.json").write_text(json.dumps(old))
        line = run_json.claim_workdir(tmp_path, config, sections)
        assert f"is older than the config keys {key}: the run continues" in line or key in MAY_DIFFER


@pytest.mark.parametrize(
    "name", ["tiny", "hubert", "wav2vec2:conformer", "pase_plus", "gmm_jepa_released", "finetune_ctc"]
)
def test_a_run_that_wrote_only_the_keys_of_its_file_opens_and_goes_on(name, tmp_path):
    """As `train` did before it wrote every key."""
    old, config = plain(config_dict(name)), load_config(name)
    (tmp_path / "config.json").write_text(json.dumps(sealed(old)))
    (tmp_path / "checkpoints" / "20").mkdir(parents=True)
    more = sorted(dict(flat(plain(config))).keys() - dict(flat(old)).keys())
    line = run_json.claim_workdir(tmp_path, config, kinds_of(config))
    assert f"is older than the config keys {', '.join(more)}: the run continues" in line if more else line == ""
    assert parsed(run_json.config_of_a_run(tmp_path / "config.json")) == config


NONE = ("encoder.recurrent", "head.blocks", "objective.predictor_blocks")  # may be 0


@pytest.mark.parametrize(
    ("name", "sections"),
    [
        ("wavlm", ["encoder"]),
        ("data2vec", ["encoder"]),
        ("w2v_bert", ["encoder", "quantizer"]),
        ("gmm_jepa", ["encoder", "head"]),
        ("pase_plus", ["encoder"]),
        ("gmm_jepa_released", ["encoder"]),
    ],
)
def test_a_size_that_cannot_be_is_refused_before_anything_is_built(name, sections, monkeypatch):
    """At 10^9 blocks building would never end; by 0 heads a width cannot be divided."""
    monkeypatch.setattr(nnx, "List", None)
    config = plain(config_dict(f"{toys.CONFIGS}/{name}.py"))
    config["anchor"] |= {"components": 8, "features": "logmel", "normalize": "level"}
    sizes = {  # all whole numbers of these sections
        f"{section}.{key}": value
        for section in sections
        for key, value in config[section].items()
        if not isinstance(value, bool) and isinstance(value, int | list) and key != "temperature"
    }
    sizes |= {"objective.predictor_blocks": 1} if name == "gmm_jepa" else {}
    for key, value in sizes.items():
        section, _, last = key.partition(".")
        for wrong in (-32, 10**6, 10**9, *([] if key in NONE else [0])):
            changed = [wrong, *value[1:]] if isinstance(value, list) else wrong
            with pytest.raises(UsageError, match=f"^config key {key} = "):
                build(config | {section: config[section] | {last: changed}})


def test_every_variant_of_smoke_is_tried():
    with pytest.raises(UsageError) as error:
        config_dict(str(toys.CONFIGS / "smoke.py") + ":none", [])
    assert str(error.value).split(": ")[1] == ", ".join(SMALL)


@pytest.mark.parametrize("name", ["gmm_jepa_released", *(f"smoke:{name}" for name in SMALL)])
def test_config_traces(name):
    objective = built(name)
    params, aux_state = jax.eval_shape(objective.init, jax.random.PRNGKey(0))
    samples, frames = 100 * HOP + WINDOW - HOP, 100
    batch = {
        "audio": ((2, samples), jnp.float32),
        "lengths": ((2,), jnp.int32),
        "record_id": ((2,), jnp.uint32),
        "epoch": ((2,), jnp.int32),
        "level": ((2,), jnp.float32),
        "weight": ((2,), jnp.float32),
        "context": ((2, samples), jnp.float32),
        "context_lengths": ((2,), jnp.int32),
        "mix": ((2, samples), jnp.float32),
        "mix_lengths": ((2,), jnp.int32),
        "mix_level": ((2,), jnp.float32),
        "anchor_ids": ((2, frames, 1), jnp.int32),
        "anchor_probs": ((2, frames, 1), jnp.float32),
    }
    batch = {key: jax.ShapeDtypeStruct(*value) for key, value in batch.items()}
    terms, _ = jax.eval_shape(objective.loss, params, aux_state, batch, jax.random.PRNGKey(0), 0)
    assert all(term.total.dtype == jnp.float32 for term in terms.values())
    if objective.config.name == "gmm_jepa":
        assert ("jepa" in terms) == objective.latent
        assert ("cluster" in terms) == (objective.targets is not None)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("hubert", 94.68),
        ("wav2vec2", 95.04),
        ("sigreg_jepa", 57.4),
        pytest.param("wavlm", 94.70, marks=pytest.mark.slow),
        pytest.param("wav2vec2:large", 317.4, marks=pytest.mark.slow),
    ],
)
def test_published_sizes(name, published):
    """Encoder, heads and quantiser together, within 0.2%."""
    assert sum(sizes(name).values()) / 1e6 == pytest.approx(published, rel=2e-3)


def test_the_published_size_of_an_encoder_alone():
    """The paper of S-JEPA counts what stays after training."""
    assert sizes("s_jepa")["encoder"] / 1e6 == pytest.approx(51.8, rel=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "published", "within"),
    [
        ("hubert:large", 316, 0.01),
        ("hubert:xlarge", 964, 0.01),
        ("w2v_bert", 600, 0.05),
        ("best_rq", 600, 0.05),
    ],
)
def test_published_sizes_as_far_as_they_are_known(name, published, within):
    assert sum(sizes(name).values()) / 1e6 == pytest.approx(published, rel=within)


def test_parameters_of_data2vec_2():
    """94M in later papers' tables. The decoder is four convolutions (7 taps, 16 groups) and a linear map."""
    convolutions = 7 * (768 + 3 * 384) // 16 * 384 + 4 * 384
    assert sizes("data2vec2") == {"encoder": 93_163_532, "decoder": convolutions + (384 + 1) * 768}
    assert sum(sizes("data2vec2").values()) / 1e6 == pytest.approx(94, rel=5e-3)


def test_parameters_of_the_published_size_and_of_the_small_one():
    """The clean encoder at the published width: 28.7M of the 43.2M that train; the small one 1.1M."""
    assert sizes("gmm_jepa") == {"encoder": 28_715_520, "predictor": 6_586_880, "head": 7_882_752}
    assert sum(sizes("smoke").values()) < 2e6
