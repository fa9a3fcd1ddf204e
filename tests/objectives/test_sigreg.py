"""SIGReg against closed forms of its integral, and the two objectives that use it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from objectives.test_equations import KEY, mean, run
from scipy.spatial.distance import pdist
from support import toys
from support.toys import build

from jepa_speech.errors import UsageError
from jepa_speech.objective_parts import sigreg
from jepa_speech.objective_parts.collapse import collapsed
from jepa_speech.objective_parts.contract import Term
from jepa_speech.objective_parts.sigreg import characteristic_sums, distance, excess, sigreg_term, unit_vectors
from jepa_speech.training.step import gradient_by_parts, gradient_of, total_loss, value

ROWS, FRAMES, WIDTH = 4, 50, 6
# float32: each of 16 sums adds up some 1e-6, and the integral is a weighted mean of their squares.
CLOSE = 1e-5


def of_gaussian(mu: float, s: float) -> float:
    """The integral from −∞ to ∞ for frames of N(μ, s²)."""
    apart = 2 * np.sqrt(2 * np.pi / (2 + s * s)) * np.exp(-mu * mu / (2 * (2 + s * s)))
    return np.sqrt(2 * np.pi / (1 + 2 * s * s)) - apart + np.sqrt(2 * np.pi / 3)


def of_sample(x: np.ndarray) -> float:
    """The integral from −∞ to ∞ for the frames x (N,)."""
    pairs = (len(x) + 2 * np.exp(-(pdist(x[:, None].astype(np.float64)) ** 2) / 2).sum()) / len(x) ** 2
    return np.sqrt(2 * np.pi) * pairs - 2 * np.sqrt(np.pi) * np.exp(-(x**2) / 4).mean() + np.sqrt(2 * np.pi / 3)


def of_frames(z: np.ndarray, directions: np.ndarray) -> float:
    """SIGReg of frames z (N, D)."""
    return float(np.mean([of_sample(z @ a) for a in np.asarray(directions)]))


def characteristic(mu: float, s: float, t: np.ndarray) -> np.ndarray:
    decay = np.exp(-((s * t) ** 2) / 2)
    return np.stack([decay * np.cos(mu * t), decay * np.sin(mu * t)])[None]


@pytest.fixture(scope="module")
def frames() -> tuple[np.ndarray, np.ndarray]:
    """Frames far from Gaussian, up to eight deviations off, and weights of 0 where rows are padded."""
    z = 1.5 * np.random.default_rng(0).standard_t(4, (ROWS, FRAMES, WIDTH)).clip(-5, 5).astype(np.float32)
    return z, (np.arange(FRAMES) < np.array([50, 40, 30, 0])[:, None]).astype(np.float32)


@pytest.fixture(scope="module")
def directions() -> jax.Array:
    return unit_vectors(KEY, 3, 40, WIDTH)  # more than are computed at once, and no multiple of it


def sigreg_of(z, weight, directions) -> float:
    return float(value(sigreg_term(z, weight, directions, 1.0)))


@pytest.mark.parametrize(
    ("mu", "s", "exact"), [(0, 1, 0), (0, 0.5, 0.151685), (0, 0, 0.408923), (1, 1, 0.444344), (0, 2, 0.236092)]
)
def test_populations(mu, s, exact):
    """Of the trapezoidal rule, [−5, 5] leaves out less than 1e-6 and the step adds less at these scales."""
    assert of_gaussian(mu, s) == pytest.approx(exact, abs=1e-6)
    assert distance(characteristic(mu, s, sigreg.NODES)) == pytest.approx(exact, abs=2e-6)


def test_the_papers_nodes_would_take_a_wide_population_for_a_narrower_one():
    t = np.linspace(-5, 5, 17)
    cos, sin = characteristic(0, 2, t)[0]
    apart = np.trapezoid(((cos - np.exp(-(t**2) / 2)) ** 2 + sin**2) * np.exp(-(t**2) / 2), t)
    assert abs(apart - of_gaussian(0, 2)) > 0.005


def test_samples(frames, directions):
    """Frames without weight do not count, whatever they hold."""
    z, weight = frames
    exact = of_frames(z[weight > 0], directions)
    assert exact > 0.05
    assert sigreg_of(z, weight, directions) == pytest.approx(exact, abs=CLOSE)
    assert sigreg_of(np.where(weight[..., None] > 0, z, 1e3), weight, directions) == pytest.approx(exact, abs=CLOSE)
    assert abs(sigreg_of(z, np.ones_like(weight), directions) - exact) > 10 * CLOSE


def test_the_order_of_frames_and_a_rotation_change_nothing(frames, directions):
    z, weight = frames
    exact, order = sigreg_of(z, weight, directions), np.random.default_rng(1).permutation(ROWS * FRAMES)
    shuffled = (x.reshape(ROWS * FRAMES, -1)[order].reshape(x.shape) for x in frames)
    assert sigreg_of(*shuffled, directions) == pytest.approx(exact, abs=CLOSE)
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(WIDTH, WIDTH)))[0].astype(np.float32)
    assert sigreg_of(z @ turn, weight, directions @ turn) == pytest.approx(exact, abs=CLOSE)
    assert abs(sigreg_of(z @ turn, weight, directions) - exact) > 10 * CLOSE


def test_directions_depend_on_the_run_and_the_step_alone():
    one = unit_vectors(KEY, 3, 500, WIDTH)
    np.testing.assert_array_equal(one, unit_vectors(KEY, jnp.asarray(3), 500, WIDTH))
    np.testing.assert_allclose(jnp.linalg.norm(one, axis=-1), 1, atol=1e-6)
    np.testing.assert_allclose(one.T @ one / 500, np.eye(WIDTH) / WIDTH, atol=0.03)  # five deviations: uniform
    for other in (unit_vectors(KEY, 4, 500, WIDTH), unit_vectors(jax.random.PRNGKey(4), 3, 500, WIDTH)):
        assert jnp.abs(other - one).max() > 0.1


def test_the_excess_of_gaussian_frames_is_zero_on_average():
    """Directions of so wide a space are next to orthogonal, so the statistics are independent; one's deviation is
    0.98 / N. The bound is five deviations of their mean; without the correction it would be 1.06 / N, 35 deviations.
    """
    size, count = 30, 1024
    assert pytest.approx(np.sqrt(2 * np.pi) * (1 - 1 / np.sqrt(3)), abs=1e-6) == sigreg.NULL
    z = jax.random.normal(KEY, (1, size, 4096))
    sums = jax.jit(characteristic_sums)(z, jnp.ones((1, size)), unit_vectors(KEY, 0, count, 4096))
    assert abs(excess(sums, jnp.asarray(size))) < 5 * 0.98 / size / np.sqrt(count)


def test_value_and_gradient_do_not_depend_on_how_a_batch_is_split(frames, directions):
    """A mean of the parts' statistics does: each part is further from Gaussian than the whole."""
    batch = dict(zip(("z", "weight"), frames, strict=True))
    params = jnp.asarray(np.random.default_rng(3).normal(size=(WIDTH, WIDTH)), jnp.float32)

    def summed(params, part):
        return {"sigreg": sigreg_term(part["z"] @ params, part["weight"], directions, 15.0)}, {}

    def averaged(params, part):
        term = summed(params, part)[0]["sigreg"]
        return {"sigreg": Term(value(term) * term.weight, term.weight, 15.0)}, {}

    gradient, (terms, _) = jax.jit(lambda p: gradient_of(total_loss, summed, p, batch)[:2])(params)
    for terms_of, same in ((summed, True), (averaged, False)):
        split, found, _ = jax.jit(lambda p, f=terms_of: gradient_by_parts(f, p, batch, 2, lambda g: g))(params)
        assert (abs(value(found["sigreg"]) - value(terms["sigreg"])) < CLOSE) == same
        assert (jnp.abs(split - gradient).max() < 1e-5 * jnp.abs(gradient).max()) == same


@pytest.fixture(scope="module")
def glas():
    return run("sigreg_jepa")


def test_sigreg_jepa(glas):
    """The targets are of the whole view, through the same map, and the prediction teaches the map from one side."""
    o, batch, params, aux_state, everything = glas
    terms, stats, view, encoded = everything(params, aux_state, 2)
    masked, inside = np.asarray(view.masked) > 0, np.asarray(view.masked + view.visible) > 0
    kernel, bias = (np.asarray(params["projector"][name]) for name in ("kernel", "bias"))
    whole = np.asarray(jax.jit(o.encoder.apply)(params["encoder"], view.unmixed, view.lengths).z) @ kernel + bias
    error = np.asarray(encoded.z)[masked] @ kernel + bias - whole[masked]
    np.testing.assert_allclose(mean(terms["prediction"]), (error**2).mean(), rtol=1e-4)
    exact = of_frames(whole[inside], unit_vectors(KEY, 2, 16, whole.shape[-1]))
    np.testing.assert_allclose(value(terms["sigreg"]), exact, atol=CLOSE)
    assert (terms["prediction"].scale, terms["sigreg"].scale) == (1.0, 15.0)

    def prediction(projector):
        return value(o.loss(params | {"projector": projector}, aux_state, batch, KEY, 2)[0]["prediction"])

    gradient = jax.jit(jax.grad(prediction))(params["projector"])
    from_one_side = 2 * np.asarray(encoded.z)[masked].T @ error / error.size
    np.testing.assert_allclose(gradient["kernel"], from_one_side, atol=1e-4 * np.abs(from_one_side).max())

    figures = {name: float(x) for name, x in o.report(stats).items()}
    assert figures["target_variance"] == pytest.approx(whole[masked].var(0).mean(), rel=1e-3)
    assert figures["target_least_std"] == pytest.approx(whole[masked].std(0).min(), rel=1e-3)
    assert figures["sigreg_excess"] == pytest.approx(exact - sigreg.NULL / inside.sum(), abs=2 * CLOSE)
    assert collapsed(figures) == ""


def figures_of(glas, kernel: jax.Array) -> dict[str, float]:
    """The report of an untrained toy whose projector has this kernel."""
    o, _, params, aux_state, everything = glas
    params = params | {"projector": params["projector"] | {"kernel": kernel}}
    return {name: float(x) for name, x in o.report(everything(params, aux_state, 2)[1]).items()}


def test_targets_along_one_direction_are_an_alarm(glas):
    """The encoder's frames, and so the figure that other objectives have, stay healthy."""
    kernel = glas[2]["projector"]["kernel"]
    figures = figures_of(glas, kernel[:, :1] * jnp.ones_like(kernel))
    assert "target rank 1.0" in collapsed(figures)
    del figures["target_rank"]
    assert collapsed(figures) == ""
    assert "target least std 0.000" in collapsed(figures_of(glas, kernel.at[:, 0].set(0)))


def test_sigreg_of_gmm_jepa_is_of_the_students_output_at_all_valid_frames():
    o, batch, params, aux_state, everything = run("gmm_jepa", objective={"sigreg_weight": 5.0})
    terms, stats, view, encoded = everything(params, aux_state, 2)
    inside = np.asarray(view.masked + view.visible) > 0
    z = np.asarray(encoded.z)
    exact = of_frames(z[inside], unit_vectors(KEY, 2, 16, z.shape[-1]))
    np.testing.assert_allclose(value(terms["sigreg"]), exact, atol=CLOSE)
    assert terms.pop("sigreg").scale == 5.0
    assert float(o.report(stats)["sigreg_excess"]) == pytest.approx(exact - sigreg.NULL / inside.sum(), abs=2 * CLOSE)
    published = build(toys.toy_objective("gmm_jepa"), toys.toy_anchor())
    assert jax.eval_shape(published.loss, params, aux_state, batch, KEY, 2)[0].keys() == terms.keys()


@pytest.mark.parametrize(
    ("name", "sections", "says"),
    [
        (
            "sigreg_jepa",
            {"mask": {"site": "pre_predictor"}},
            r"mask\.site = pre_predictor: objective.name = sigreg_jepa",
        ),
        ("sigreg_jepa", {"objective": {"sigreg_weight": -1.0}}, r"objective\.sigreg_weight = -1: expected 0 or more"),
        ("gmm_jepa", {"objective": {"sigreg_weight": -1.0}}, r"objective\.sigreg_weight = -1: expected 0 or more"),
    ],
)
def test_what_cannot_be_is_refused(name, sections, says):
    with pytest.raises(UsageError, match=says):
        build(toys.toy_objective(name, **sections), toys.toy_anchor())
