"""data2vec 2.0: its masks, its one pass of the teacher, its loss and its figures."""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import toys
from support.toys import build

from jepa_speech.errors import UsageError
from jepa_speech.nn.module import PureEncoder
from jepa_speech.nn.row_random import fold
from jepa_speech.objective_parts.collapse import collapsed, masked_moments, spread_over_time, variance
from jepa_speech.objective_parts.collapse import variance_over_time as over_time
from jepa_speech.objective_parts.masked import ENCODER
from jepa_speech.objectives.data2vec2 import Data2Vec2, Data2Vec2Config
from jepa_speech.training.checkpoint import by_path

KEY, MASKS = jax.random.PRNGKey(3), 2
SECTIONS = {
    "mask": {"ratio": (0.5, 0.5)},
    "encoder": {"dropout": 0.1},
    "objective": {"masks": MASKS},
}


class Counted(PureEncoder):
    """Notes each call when it is traced: whether it has a mask, and its numbers of waves and of keys."""

    def apply(self, params: Any, wave: jax.Array, lengths: jax.Array, *rest: Any, **named: Any) -> Any:
        CALLS.append((bool(rest) and rest[0] is not None, len(wave), len(rest[0]) if rest else 0))
        return super().apply(params, wave, lengths, *rest, **named)


CALLS: list[tuple[bool, int, int]] = []


@pytest.fixture(scope="module")
def system():
    whole = build(toys.toy_objective("data2vec2", **SECTIONS))
    known = {field.name: getattr(whole.encoder, field.name) for field in dataclasses.fields(PureEncoder)}
    o = dataclasses.replace(whole, encoder=Counted(**known))
    params, aux_state = jax.jit(o.init)(KEY)
    return o, params, jax.tree.map(lambda x: 1.1 * x, aux_state), toys.toy_batch()


def single(o: Data2Vec2, which: int) -> Data2Vec2:
    """The objective with one of its masks."""

    class Single(Data2Vec2):
        def mask_keys(self, keys):
            return super().mask_keys(keys)[which::MASKS]

    return Single(**{field.name: getattr(o, field.name) for field in dataclasses.fields(o)})


@pytest.fixture(scope="module")
def result(system):
    """(view, encoded, prediction, terms, stats), the terms of each mask alone, and the calls of the encoder in the
    loss of all.
    """
    o, params, aux_state, batch = system
    calls = []

    @jax.jit
    def everything(params, aux_state):
        view = o.view(batch, KEY)
        encoded = o.encode(params, view.mixed, view.lengths, view.mask, fold(view.keys, ENCODER))
        prediction = o.predict(params, encoded.z, view)
        CALLS.clear()
        terms, stats = o.loss(params, aux_state, batch, KEY, 0)
        calls.extend(CALLS)
        singles = [single(o, m).loss(params, aux_state, batch, KEY, 0)[0] for m in range(MASKS)]
        return (view, encoded, prediction, terms, stats), singles

    return *everything(params, aux_state), calls


def test_the_teacher_runs_once_for_all_masks(result):
    (view, *_), _, calls = result
    assert calls == [(True, 4, 4 * MASKS), (False, 4, 0)]
    masks = np.asarray(view.mask).reshape(4, MASKS, -1)
    assert (masks[:, 0] != masks[:, 1]).any(1).all()


def test_the_loss_is_the_mean_of_the_losses_of_single_masks(result):
    """With dropout and noise, which belong to the mask's key."""
    (*_, terms, _), singles, _ = result
    term, losses = terms["regression"], [one["regression"].total / one["regression"].weight for one in singles]
    np.testing.assert_allclose(term.total / term.weight, np.mean(losses), rtol=1e-5)
    assert np.ptp(losses) > 1e-3


def test_the_equation(system, result):
    """The target by numpy, from the teacher's one block on each recording alone: no statistic has padding in it."""
    o, params, aux_state, _ = system
    (view, encoded, prediction, terms, stats), *_ = result
    whole = params["encoder"] | aux_state["teacher"]
    masked, lengths = np.asarray(view.mask), np.asarray(view.frame_lengths)
    ff = jax.jit(lambda p: o.encoder.apply(p, view.clean, view.lengths).ff)(whole)
    total, squares = 0.0, 0.0
    for row in range(4):
        x = np.asarray(ff[-1][row, : lengths[row]], np.float64)
        target = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
        features = np.asarray(encoded.features)[row * MASKS : (row + 1) * MASKS, : lengths[row]]
        squares += features.var(1).mean() * MASKS * lengths[row]
        for n in range(row * MASKS, (row + 1) * MASKS):
            assert masked[n].sum() == lengths[row] // 2
            chosen = masked[n, : lengths[row]]
            total += ((np.asarray(prediction)[n, : lengths[row]] - target)[chosen] ** 2).sum() / np.sqrt(16)
    np.testing.assert_allclose(terms["regression"].total, total, rtol=1e-4)
    assert terms["regression"].weight == masked.sum() and terms["regression"].scale == 1
    np.testing.assert_allclose(o.report(stats)["frontend_variance"], squares / MASKS / lengths.sum(), rtol=1e-4)


def test_the_decoder_reads_the_encoder_at_visible_frames_and_noise_at_masked_ones(system, result):
    o, params, *_ = system
    (view, encoded, *_), *_ = result
    assert not np.asarray(encoded.z)[np.asarray(view.mask)].any()

    class Echo:
        def apply(self, params, x, inside):
            return x

    bare = dataclasses.replace(o, decoder=Echo(), config=dataclasses.replace(o.config, decoder_dropout=0.0))
    x, mask = np.asarray(bare.predict(params, encoded.z, view)), np.asarray(view.mask)
    np.testing.assert_array_equal(x[~mask], np.asarray(encoded.z)[~mask])
    assert x[mask].std() == pytest.approx(0.01, rel=0.05) and abs(x[mask].mean()) < 1e-3


def test_the_teacher_averages_all_but_front_end_and_projection(system):
    o, params, aux_state, _ = system
    assert set(params["encoder"]) - set(aux_state["teacher"]) == {"projection"}  # log-mel has no parameters
    config = Data2Vec2Config()
    published = dataclasses.replace(o, config=config)
    assert [round(float(published.decay(step)), 6) for step in (0, 37_500, 75_000)] == [0.999, 0.999495, 0.99999]
    after = jax.jit(o.update_aux_state)(aux_state, params, {}, 0)["teacher"]
    rate = 1 - float(o.decay(0))
    for path, x in by_path(after).items():
        old, new = by_path(aux_state["teacher"])[path], by_path(params["encoder"])[path]
        np.testing.assert_allclose(x, old + rate * (new - old), rtol=1e-5, atol=1e-7, err_msg=path)


def test_a_front_end_that_gives_one_vector_is_an_alarm():
    """Planted: a large constant, and next to it what moves. Instance normalisation makes targets of the rest."""
    o = build(toys.toy_objective("data2vec2", encoder={"frontend": "conv"}))
    params, aux_state = jax.jit(o.init)(KEY)
    batch = toys.toy_batch()
    report = jax.jit(lambda p: o.report(o.loss(p, aux_state, batch, KEY, 0)[1]))
    healthy = {name: float(x) for name, x in report(params).items()}
    assert collapsed(healthy) == "" and healthy["frontend_variance"] > 0.01
    front = params["encoder"]["frontend"]
    dead = {
        "scale": 0.01 * front["final_norm"]["scale"],
        "bias": jax.random.normal(KEY, front["final_norm"]["bias"].shape),
    }
    planted = params | {"encoder": params["encoder"] | {"frontend": front | {"final_norm": dead}}}
    figures = {name: float(x) for name, x in report(planted).items()}
    assert re.match(r"frontend variance .*e-05, healthy from 0\.001", collapsed(figures)), figures
    assert figures["target_variance"] > 0.1 and figures["prediction_variance"] > 0.01  # as released code demands
    assert collapsed(figures | {"frontend_variance": 1.0}) == ""  # no other figure shows it


def test_variance_over_time_is_not_that_between_recordings():
    x, weight = jnp.tile(jnp.arange(4.0)[:, None, None], (1, 9, 3)), jnp.arange(9) < jnp.array([[9], [5], [2], [0]])
    assert over_time(spread_over_time(x, weight)) == 0
    assert variance(masked_moments(x, weight)) > 0.1  # it would not see it


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"encoder": {"name": "conformer"}}, "which encoder.name = conformer does not allow: use transformer, or"),
        ({"mask": {"site": "pre_predictor"}}, r"mask\.site = pre_predictor: objective.name = data2vec2 needs"),
        ({"objective": {"decoder_groups": 3}}, r"decoder_groups = 3: must divide encoder.width = 16"),
        ({"objective": {"masks": 0}}, r"objective\.masks = 0: expected 1"),
        ({"objective": {"top_blocks": 3}}, r"objective\.top_blocks = 3: the encoder has 1 blocks"),
    ],
)
def test_what_cannot_be_is_refused(sections, says):
    with pytest.raises(UsageError, match=says):
        build(toys.toy_objective("data2vec2", **sections))
