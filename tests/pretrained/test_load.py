import json
import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import toys
from support.exported_runs import small_config

import jepa_speech
from jepa_speech.errors import UsageError, UserError
from jepa_speech.features.grid import HOP, frames
from jepa_speech.pretrained import load as pretrained
from jepa_speech.pretrained import windows
from jepa_speech.training.loop import train
from jepa_speech.training.run_json import config_of_a_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder after one step, moved away from where it was trained."""
    anchor = toys.toy_anchor()
    config = toys.toy_config(train={"steps": 1, "checkpoint_every": 1}, anchor={"source": "online"})
    batch = {name: np.asarray(x) for name, x in toys.toy_batch(anchor=anchor, rows=4).items()}
    first = tmp_path_factory.mktemp("first") / "run"
    train(toys.typed(config), toys.build(config, anchor), lambda start, stop: (b for b in [batch]), first)
    return shutil.move(first, tmp_path_factory.mktemp("second") / "run")


@pytest.fixture(scope="module")
def model(run):
    return jepa_speech.load_pretrained(run)


def wave(seconds: float) -> np.ndarray:
    return toys.toy_audio(1, round(16_000 * seconds), seed=3)[0]


@pytest.mark.parametrize("samples", [400, 719, 8_000, 16_000, 30_001])
def test_layers_are_those_of_the_objective_whatever_the_padding(model, samples):
    x = wave(2)[:samples]
    expected, _ = model.objective.represent(model.params, model.aux_state, jnp.asarray(x)[None], jnp.array([samples]))
    got = model.represent(x, 16_000)
    assert got.frame_rate == 50
    assert [layer.shape for layer in got.layers] == [(frames(samples), 16)] * 3
    for layer, exact in zip(got.layers, expected, strict=True):
        np.testing.assert_allclose(layer, exact[0], atol=2e-5)


def check_batch(model, waves, rate=16_000, **lengths):
    """The batch holds what each wave gives alone; returns it."""
    found = model.represent_batch(waves, rate, **lengths)
    alone = [model.represent(row, rate) for row in pretrained.rows_of(waves, lengths.get("lengths"))]
    for a, b in zip(found, alone, strict=True):
        assert a.frame_rate == b.frame_rate
        for layer, exact in zip(a.layers, b.layers, strict=True):
            np.testing.assert_allclose(layer, exact, atol=1e-5)
    return found


def test_a_batch_gives_what_each_wave_gives_alone(model):
    waves = [wave(2)[:samples] for samples in (400, 30_001, 719, 9_000, 16_000)]
    found = check_batch(model, waves)
    assert [len(one.layers[0]) for one in found] == [frames(len(x)) for x in waves]


def test_rows_of_an_array_end_at_their_lengths(model):
    waves = np.stack([wave(1), -wave(1), 2 * wave(1), wave(1)[::-1]])
    found = check_batch(model, waves, lengths=np.array([16_000, 400, 5_000, 8_000]))
    waves[1, 400:] = 9.0  # behind its end
    again = model.represent_batch(waves, 16_000, lengths=[16_000, 400, 5_000, 8_000])
    np.testing.assert_array_equal(found[1].layers[-1], again[1].layers[-1])
    assert [len(one.layers[0]) for one in found] == [frames(n) for n in (16_000, 400, 5_000, 8_000)]


def test_a_batch_for_a_front_end_that_normalises_over_time():
    """Over the row's own frames, here: so batch mates of other lengths change nothing, as they do in transformers."""
    base = pretrained.untrained(toys.typed(small_config("hubert")), 0)
    assert base.config.encoder.norm == "group"
    check_batch(base, [wave(1)[:samples] for samples in (400, 719, 9_000, 16_000)])


@pytest.mark.parametrize(
    ("waves", "lengths", "says"),
    [
        ([], None, "the batch is empty"),
        (np.zeros((0, 16_000)), None, "the batch is empty"),
        (np.zeros(16_000), None, r"a list of waves \(S,\) or an array \(B, S\), not \(16000,\)"),
        ([np.ones(800), np.full(800, np.nan)], None, "wave 1 of 0 to 1: the wave holds NaN"),
        ([np.ones(800), np.ones(399)], None, "wave 1 of 0 to 1: the wave has 399 samples .* needs 400"),
        ([np.ones((2, 800))], None, "wave 0 of 0 to 0: .* one channel"),
        (np.ones((2, 800)), [800, 399], "wave 1 of 0 to 1: the wave has 399"),
        (np.ones((2, 800)), [800], r"lengths has type int64 and shape \(1,\): pass 2 integers"),
        (np.ones((2, 800)), [800.0, 800.0], "type float64"),
        (np.ones((2, 800)), [800, 801], r"lengths\[1\] = 801, and wave 1 has 800 samples"),
        ([np.ones(800), np.ones(700)], [-1, 700], r"lengths\[0\] = -1"),
    ],
)
def test_a_batch_that_cannot_be_is_refused(model, waves, lengths, says):
    with pytest.raises(UserError, match=says):
        model.represent_batch(waves, 16_000, lengths)


def test_a_sample_rate_that_is_none(model):
    with pytest.raises(UserError, match="sample_rate = 0"):
        model.represent(wave(1), 0)


def test_level_and_offset_do_not_matter(model):
    x = wave(1)
    for other in (0.1 * x, x + 0.3):
        np.testing.assert_allclose(
            model.represent(other, 16_000).layers[-1], model.represent(x, 16_000).layers[-1], atol=1e-3
        )


def test_long_waves_go_through_overlapping_windows(model, monkeypatch):
    monkeypatch.setattr(windows, "PADDED_SECONDS", (1, 2))
    monkeypatch.setattr(windows, "OVERLAP_SECONDS", 1)
    x = wave(4.93)
    layers = model.represent(x, 16_000).layers
    assert {len(layer) for layer in layers} == {frames(len(x))}
    first = model.represent(x[:32_000], 16_000).layers[-1]
    np.testing.assert_allclose(layers[-1][:70], first[:70], atol=2e-5)
    second = model.represent(x[16_000:48_000], 16_000).layers[-1]
    middle = slice(16_000 // HOP + 30, 16_000 // HOP + 70)
    np.testing.assert_allclose(layers[-1][middle], second[30:70], atol=2e-5)


def test_other_sample_rates_are_resampled(model):
    assert len(model.represent(wave(1)[::2], 8_000).layers[0]) == frames(16_000)
    quiet = (30 * wave(1)[::2] / abs(wave(1)).max()).astype(np.int16)  # soxr adds noise to integers
    ours, exact = (model.represent(x, 8_000).layers[-1] for x in (quiet, quiet.astype(np.float32)))
    np.testing.assert_array_equal(ours, exact)


def test_cluster_probabilities(model):
    assert model.cluster_head
    probs = model.cluster_probs(wave(1), 16_000)
    assert probs.shape == (frames(16_000), toys.K)
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-5)


def test_cluster_probabilities_where_frames_are_hidden(model):
    """The seed determines the mask; masked samples have no effect; a share of `mask.ratio` is masked."""
    x = wave(1)
    probs, hidden = model.masked_cluster_probs(x, 16_000, seed=1)
    again, same = model.masked_cluster_probs(x, 16_000, seed=1)
    _, other = model.masked_cluster_probs(x, 16_000, seed=2)
    assert (hidden == same).all() and (probs == again).all() and (hidden != other).any()
    low, high = model.config.mask.ratio
    assert low - 0.02 <= hidden.mean() <= high + 0.02 and len(hidden) == len(probs) == frames(16_000)
    assert np.abs(probs - model.cluster_probs(x, 16_000)).max() > 1e-3
    edges = np.flatnonzero(np.diff(np.concatenate([[0], hidden, [0]])))
    first, last = max(edges.reshape(-1, 2), key=np.ptp)  # the longest span
    inside = slice(HOP * first + 400, HOP * (last - 1))  # heard by no visible frame
    assert inside.stop - inside.start > HOP
    changed = x.copy()
    changed[inside] = changed[inside][::-1]  # the level stays as it is
    assert np.abs(model.cluster_probs(changed, 16_000) - model.cluster_probs(x, 16_000)).max() > 1e-3
    np.testing.assert_allclose(model.masked_cluster_probs(changed, 16_000, seed=1)[0], probs, atol=1e-5)


def test_hidden_frames_that_hold_noise_are_refused(model):
    objective = replace(model.objective, mask=replace(model.objective.mask, fill="random"))
    with pytest.raises(UsageError, match="fill = random"):
        replace(model, objective=objective).masked_cluster_probs(wave(1), 16_000, seed=1)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (np.zeros(399), "needs 400"),
        (np.zeros(0), "needs 400"),
        (np.full(16_000, np.nan), "NaN"),
        (np.zeros((2, 16_000)), "one channel"),
    ],
)
def test_what_cannot_be_represented_is_refused(model, bad, says):
    with pytest.raises(UserError, match=says):
        model.represent(bad, 16_000)


def test_only_what_was_fine_tuned_writes(model):
    with pytest.raises(UserError, match="the objective gmm_jepa writes no texts: fine-tune it"):
        model.transcribe(wave(0.5), 16_000)


def test_silence_has_a_finite_representation(model):
    assert np.isfinite(model.represent(np.zeros(16_000), 16_000).layers[-1]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_output_that_is_not_finite_is_refused(model, value):
    def function(params, aux_state, waves, lengths):
        count = frames(int(lengths[0]))
        layers = [np.zeros((1, count, 4)), np.zeros((1, count, 4))]
        layers[1][0, 3, 2] = value
        return layers, np.array([count])

    with pytest.raises(UserError, match="the encoder's output holds NaN or infinite values"):
        model._layers(function, [wave(1)])


def test_not_a_run(tmp_path):
    with pytest.raises(UserError, match=r"no config\.json"):
        jepa_speech.load_pretrained(tmp_path)


def test_checkpoint_of_another_architecture(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "run")
    config = config_of_a_run(other / "config.json")
    config["encoder"]["width"] = 32
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="params/encoder"):
        jepa_speech.load_pretrained(other)


def test_untrained_is_the_same_architecture_from_a_seed(model):
    a, b, c = (pretrained.untrained(model.config, seed) for seed in (0, 0, 1))
    assert jax.tree.structure(a.params) == jax.tree.structure(model.params)
    x = wave(1)
    np.testing.assert_array_equal(a.represent(x, 16_000).layers[-1], b.represent(x, 16_000).layers[-1])
    assert np.abs(a.represent(x, 16_000).layers[-1] - c.represent(x, 16_000).layers[-1]).max() > 0.1
