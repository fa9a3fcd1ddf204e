"""Programs of every system: what `represent` gives, for rows of any length in one batch, without this package."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.exported_runs import random_weights, small_config, small_run
from support.toys import CONFIGS, build

from jepa_speech.cli import main
from jepa_speech.exporters.stablehlo import to_stablehlo
from jepa_speech.files import read_json
from jepa_speech.nn.row_random import valid
from jepa_speech.settings.run_config import plain
from jepa_speech.training.configfile import config_dict, imported

TOLERANCE = 1e-4
ANCHOR = ["anchor.components=8", "anchor.features=logmel", "anchor.normalize=level", "anchor.source=online"]
# One for each way to build an encoder; the other variants of configs/tiny.py have the encoder of gmm_jepa.
TINY = ["gmm_jepa", "wavlm", "w2v_bert", "pase", "pase_plus"]


def tiny(name: str) -> dict:
    return plain(config_dict(f"{CONFIGS}/tiny.py:{name}", ANCHOR))


def section(name: str) -> dict:
    if name in TINY:
        return tiny(name)
    if name == "conformer":
        config = tiny("gmm_jepa")
        config["encoder"] |= {"frontend": "conv", "name": "conformer", "channels": 8}
        return config
    return small_config(name)  # the published encoders; that of wav2vec2 normalises over time


def batch(shortest: int, longest: int) -> tuple[jax.Array, jax.Array]:
    """Rows of five lengths, on and off the grid, padded with noise."""
    lengths = np.array([shortest, shortest + 319, 5_000, 16_000, longest], np.int32)
    waves = np.random.default_rng(0).normal(0.1, 0.2, (len(lengths), lengths.max()))
    return jnp.asarray(waves, jnp.float32), jnp.asarray(lengths)


SHORT, LONG = 20_007, 35 * 16_000 + 7
FAST = [("gmm_jepa", LONG), ("conformer", SHORT), ("wavlm", SHORT), ("w2v_bert", SHORT), ("pase_plus", SHORT)]
SLOW = [(name, LONG) for name in [*TINY[1:], "conformer", "wav2vec2", "data2vec"]]  # compiling takes a minute together


@pytest.mark.parametrize(("name", "longest"), [*FAST, *(pytest.param(*each, marks=pytest.mark.slow) for each in SLOW)])
def test_a_program_gives_the_layers_of_its_run(name, longest):
    objective = build(section(name))
    params, aux_state = random_weights(section(name))
    program = to_stablehlo(objective, params, aux_state)
    again = jax.export.deserialize(program.exported.serialize())
    waves, lengths = batch(objective.min_samples, longest)
    layers, frame_lengths = again.call(program.weights, waves, lengths)
    expected, expected_lengths = jax.jit(objective.represent)(params, aux_state, waves, lengths)
    np.testing.assert_array_equal(frame_lengths, expected_lengths)
    assert [x.shape for x in layers] == [x.shape for x in expected]
    for layer, exact in zip(layers, expected, strict=True):
        inside = valid(frame_lengths, exact.shape[1])[..., None]
        assert np.abs((layer - exact) * inside).max() < TOLERANCE
    assert not any("mask" in key or "teacher" in key or "head" in key for key in program.weights)


def test_the_other_variants_share_an_encoder():
    shared, variants = tiny("gmm_jepa")["encoder"], imported(CONFIGS / "tiny.py").VARIANTS
    assert all(tiny(name)["encoder"] == shared for name in variants if name not in TINY)


def test_the_folder_by_its_own_readme(tmp_path, monkeypatch, capsys):
    run = small_run(tmp_path / "run", tiny("gmm_jepa"))
    out = tmp_path / "program"
    assert main(["export", "stablehlo", str(run), "--out", str(out), "--json", str(tmp_path / "said.json")]) == 0
    said = read_json(tmp_path / "said.json")
    assert sorted(said["files"]) == sorted(path.name for path in out.iterdir())
    readme = (out / "README.md").read_text()
    assert said["provenance"]["SHA-256 of the run's config.json"] in readme
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.S)
    assert "jepa_speech" not in code
    monkeypatch.chdir(out)
    waves = np.random.default_rng(1).normal(size=(2, 900)).astype(np.float32)
    found = {"waves": waves, "lengths": np.array([900, 400], np.int32)}
    exec(code, found)
    assert [x.shape for x in found["layers"]] == [(2, 2, 16)] * said["layers"]
    assert found["frame_lengths"].tolist() == [2, 1]

    capsys.readouterr()
    assert main(["export", "stablehlo", str(run), "--out", str(out)]) == 1
    assert "already has an export.json" in capsys.readouterr().err
