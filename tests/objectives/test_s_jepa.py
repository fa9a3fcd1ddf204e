"""S-JEPA's online mixture: where its frames come from, which layer it is on, and what each part of the loss is."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, xlogy
from support import properties, toys, training
from support.properties import KEY
from support.toys import build

from jepa_speech.anchors import online
from jepa_speech.errors import UsageError
from jepa_speech.nn.row_random import fold
from jepa_speech.objective_parts import reservoir
from jepa_speech.objective_parts.collapse import HEALTHY, collapsed
from jepa_speech.objective_parts.masked import ENCODER
from jepa_speech.objective_parts.online_mixture import OnlineMixture, chosen, is_seeded


@pytest.fixture(scope="module")
def toy() -> types.SimpleNamespace:
    """Two blocks. `loss` and `update` are compiled once; `aux` is the auxiliary state once the mixture is seeded."""
    o = build(toys.toy_objective("s_jepa", encoder={"blocks": 2}, objective={"layer_every": 2, "mixture_decay": 0.5}))
    system = properties.System(o, training.toy_batch("s_jepa", o))
    loss, update, report = jax.jit(o.loss), jax.jit(o.update_aux_state), jax.jit(o.report)

    def after(aux, step, batch=system.batch):
        stats = loss(system.params, aux, batch, KEY, step)[1]
        return update(aux, system.params, stats, step)

    aux = after(system.aux_state, 0)
    return types.SimpleNamespace(o=o, system=system, loss=loss, update=update, report=report, after=after, aux=aux)


def mean(term) -> float:
    return float(term.total / term.weight)


def test_the_loss_is_0_until_the_mixture_is_seeded(toy):
    assert not is_seeded(toy.system.aux_state["online"]) and is_seeded(toy.aux["online"])
    for aux, scale in ((toy.system.aux_state, 0.0), (toy.aux, 1.0)):
        terms, stats = toy.loss(toy.system.params, aux, toy.system.batch, KEY, 0)
        assert float(terms["cluster"].scale) == scale
        assert collapsed({name: float(x) for name, x in toy.report(stats).items()}) == ""


def test_the_loss_is_the_divergence_of_posteriors_and_predictions(toy):
    o, state, params, batch = toy.o, toy.aux["online"], toy.system.params, toy.system.batch

    @jax.jit
    def parts(params, aux):
        view = o.view(batch, KEY)
        z = o.encode(params, view.mixed, view.lengths, view.mask, fold(view.keys, ENCODER)).z
        predicted = o.predictor.apply(params["predictor"], z, view.mask, view.frame_lengths)
        logits = [o.head.apply(params["head"], x) for x in (predicted, z)]
        return view, logits, o.layers(aux["teacher"], view.unmixed, view.lengths)

    view, logits, layers = parts(params, toy.aux)
    terms, stats = toy.loss(params, toy.aux, batch, KEY, 1)
    layer = int(state["layer"].argmax())
    assert int(terms["mixture_layer"].total) == layer + 1
    x = np.asarray(layers[layer], np.float64)
    m = {name: np.asarray(value, np.float64) for name, value in state["mixture"].items()}
    z = (x - m["shift"]) / m["scale"]
    joint = np.log(m["weights"]) - 0.5 * (
        np.square(z[..., None, :] - m["means"]) / m["variances"] + np.log(2 * np.pi * m["variances"])
    ).sum(-1)
    q = np.exp(log_softmax(joint, axis=-1))
    for name, weight, of in (("cluster", view.masked, logits[0]), ("cluster_visible", view.visible, logits[1])):
        divergence = (xlogy(q, q) - q * log_softmax(np.asarray(of, np.float64), axis=-1)).sum(-1)
        expected = (divergence * np.asarray(weight)).sum() / np.asarray(weight).sum()
        assert mean(terms[name]) == pytest.approx(expected, rel=1e-3)
    inside = np.asarray(view.masked + view.visible) > 0
    np.testing.assert_allclose(stats["sums"].counts, q[inside].sum(0), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(stats["sums"].first, q[inside].T @ z[inside], rtol=1e-3, atol=1e-2)
    # The reservoir has frames of no padding, each of one time in all layers.
    held, filled = (np.asarray(state["reservoir"][name]) for name in ("frames", "filled"))
    everywhere = np.concatenate([np.asarray(layer)[inside] for layer in layers], -1)
    for slot in np.flatnonzero(filled):
        assert np.abs(everywhere - np.concatenate(held[:, slot], -1)).max(-1).min() < 1e-5
    assert filled.sum() >= 32 and not held[:, filled == 0].any()


def test_neither_gradients_nor_padding_reach_the_mixture(toy):
    system = properties.System.__new__(properties.System)
    vars(system).update(vars(toy.system) | {"aux_state": toy.aux})
    training.no_gradient_into_aux_state(system)
    batch = toy.system.batch
    longer = {name: jnp.pad(x, [(0, 0), (0, 3200)]) if name == "audio" else x for name, x in batch.items()}
    (short, sums), (long, padded) = (toy.loss(toy.system.params, toy.aux, b, KEY, 1) for b in (batch, longer))
    for name in short:
        assert mean(long[name]) == pytest.approx(mean(short[name]), abs=1e-5), name
    for name in ("sums", "offer"):
        for a, b in zip(jax.tree.leaves(padded[name]), jax.tree.leaves(sums[name]), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)


def test_rows_on_several_devices_move_the_mixture_together_and_not_each_its_own(toy):
    """Each device's sums are those of its rows: added, they give the mixture of the whole batch, and alone another."""
    batch, params, aux = toy.system.batch, toy.system.params, toy.aux
    mine = jnp.arange(len(batch["weight"])) < 2
    weights = {"whole": batch["weight"], "own": mine * 1.0, "others": ~mine * 1.0}
    stats = {name: toy.loss(params, aux, batch | {"weight": w}, KEY, 2)[1] for name, w in weights.items()}
    stats["sum"] = jax.tree.map(jnp.add, stats["own"], stats["others"])
    whole, added, own = (toy.update(aux, params, stats[name], 2)["online"] for name in ("whole", "sum", "own"))
    for part in ("mixture", "reservoir"):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), added[part], whole[part])
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(own["mixture"]["means"], whole["mixture"]["means"], rtol=1e-4, atol=1e-4)


def test_a_restored_state_continues_bit_by_bit(toy):
    """Over two choices of the layer, with their smoothed ranks."""
    aux = toy.after(toy.aux, 1)
    saved = jax.tree.map(np.asarray, aux)
    courses = []
    for start in (aux, jax.tree.map(jnp.asarray, saved)):
        for step in range(2, 6):
            start = toy.after(start, step)
        courses.append(start)
    jax.tree.map(np.testing.assert_array_equal, *courses)
    assert not np.array_equal(courses[0]["online"]["ranks"], saved["online"]["ranks"])


def test_a_collapse_of_the_teacher_or_of_the_mixture_is_an_alarm(toy):
    state = toy.aux["online"]
    teacher = toy.aux["teacher"] | {"norm": jax.tree.map(jnp.zeros_like, toy.aux["teacher"]["norm"])}
    last = state | {"layer": jnp.array([0.0, 1.0])}
    mixture = state["mixture"] | {"means": state["mixture"]["means"].at[1:].add(1e3)}
    planted = {
        "target_rank": toy.aux | {"teacher": teacher, "online": last},
        "mixture_usage": toy.aux | {"online": state | {"mixture": mixture}},
    }
    for name, aux in planted.items():
        stats = toy.loss(toy.system.params, aux, toy.system.batch, KEY, 1)[1]
        figures = {key: float(x) for key, x in toy.report(stats).items()}
        assert figures[name] < HEALTHY[name][0]
        assert name.replace("_", " ") in collapsed({name: figures[name]})


def test_the_decay_of_the_teacher_alternates(toy):
    o = build(toys.toy_objective("s_jepa", objective={"ema_every": 10}))
    assert [round(float(o.decay(step)), 6) for step in (0, 9, 10, 19, 20)] == [0.999, 0.999, 0.9999, 0.9999, 0.999]


def offer_of(layers: list[np.ndarray]) -> dict:
    """An offer that fills every slot: layers [(R, D)]."""
    return {"counts": jnp.ones(len(layers[0])), "frames": jnp.asarray(np.stack(layers), jnp.float32)}


def test_another_layer_means_another_seeding():
    """The layer is the one of the highest smoothed rank, and the mixture is made of its frames."""
    rng, size, width = np.random.default_rng(0), 64, 4
    o = OnlineMixture(4, 2, width, "statistics", 0.9, layer_every=3, size=size)
    rich = 7 + rng.normal(size=(size, width))
    poor = np.outer(rng.normal(size=size), np.ones(width)) - 7  # along one line: rank 1
    first, second = offer_of([rich, poor]), offer_of([poor, rich])
    nothing = online.Sums(jnp.zeros(4), jnp.zeros((4, width)), jnp.zeros((4, width)))
    update = jax.jit(o.update)
    state = update(o.init(), nothing, first, 0)
    singular = np.linalg.svd(rich - rich.mean(0), compute_uv=False)
    p = singular / singular.sum()
    rank = np.exp(-(p * np.log(p)).sum())
    np.testing.assert_array_equal(state["layer"], [1, 0])
    np.testing.assert_allclose(state["ranks"], [rank, 1], rtol=1e-3)
    assert float(state["mixture"]["shift"].min()) > 6
    before = state
    for step in range(1, 6):  # chosen after steps 2 and 5
        state = update(state, nothing, second, step)
        smoothed = rank + (1 - rank) * (1 - 0.5 ** ((step + 1) // 3))
        np.testing.assert_allclose(state["ranks"][0], smoothed, rtol=1e-3)
        if step < 5:  # half of each rank after one choice: a tie, which the first layer wins
            np.testing.assert_array_equal(state["mixture"]["shift"], before["mixture"]["shift"])
    np.testing.assert_array_equal(state["layer"], [0, 1])
    expected = rich.mean(0)
    np.testing.assert_allclose(state["mixture"]["shift"], expected, rtol=1e-4)
    assert chosen(state["layer"], list(state["reservoir"]["frames"])).shape == (size, width)


def test_windows_cover_all_slots_and_a_slot_takes_only_a_frame_that_comes_alone(monkeypatch):
    monkeypatch.setattr(reservoir, "WINDOW", 4)
    held = reservoir.empty(1, 10, 2)
    frames = jnp.arange(1.0, 9).reshape(1, 4, 2)
    for step in range(3):
        held = reservoir.refilled(held, {"counts": jnp.ones(4), "frames": frames + 10 * step}, jnp.array(step))
    np.testing.assert_array_equal(held["filled"], 1)
    np.testing.assert_array_equal(held["frames"][0, :, 0], [1, 3, 5, 7, 11, 13, 21, 23, 25, 27])
    counts = jnp.array([0.0, 2, 1, 3])  # sums of two frames or three are no frames
    after = reservoir.refilled(held, {"counts": counts, "frames": 100 * frames}, jnp.array(3))
    np.testing.assert_array_equal(after["frames"][0, :4, 0], [1, 3, 500, 7])
    keys = jax.random.split(KEY, 6)
    x, lengths = jax.random.normal(KEY, (6, 9, 2)), jnp.array([9, 8, 7, 3, 2, 1])
    whole = reservoir.offered(keys, [x], lengths, jnp.ones(6), 10, 0.5)
    parts = [
        reservoir.offered(keys[part], [x[part]], lengths[part], jnp.ones(3), 10, 0.5)
        for part in (slice(3), slice(3, 6))
    ]
    jax.tree.map(lambda a, b, c: np.testing.assert_allclose(a + b, c, rtol=1e-6, atol=1e-6), *parts, whole)
    assert float(whole["counts"].sum()) == 6 * reservoir.OFFERS


def test_a_large_batch_fills_as_many_slots_as_a_small_one():
    """2,000 rows offer 16,000 frames for 1,024 slots: without thinning, 0.003 slots get exactly one."""
    rows, width = 2000, reservoir.WINDOW
    keys, x, one = jax.random.split(KEY, rows), jnp.ones((rows, 1, 1)), jnp.ones(rows)
    filled = [
        int((reservoir.offered(keys, [x], one.astype(int), one, width, of)["counts"] == 1).sum()) for of in (rows, 1.0)
    ]
    assert width / 4 < filled[0] < width / 2 and filled[1] < 5


def test_a_run_of_other_components_is_seeded_anew(toy):
    """What init_from takes by name and shape is not a mixture that is equal for all frames and passes for seeded."""
    other = build(toys.toy_objective("s_jepa", encoder={"blocks": 2}, objective={"components": 3})).mixture.init()
    taken = jax.tree.map(lambda old, new: old if old.shape == new.shape else new, toy.aux["online"], other)
    assert is_seeded(toy.aux["online"]) and not is_seeded(taken)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("reservoir", 20, r"objective\.reservoir = 20: objective\.components = 4 are .* at least 64 frames"),
        ("mixture_decay", 1.0, r"objective\.mixture_decay = 1\.0: expected above 0"),
        ("layer_every", 0, r"objective\.layer_every = 0: expected 1 to"),
        ("mixture_update", "sums", r"objective\.mixture_update = 'sums': expected"),
    ],
)
def test_values_that_cannot_be_are_refused(key, value, message):
    with pytest.raises(UsageError, match=message):
        build(toys.toy_objective("s_jepa", objective={key: value}))
