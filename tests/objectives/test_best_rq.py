"""BEST-RQ: its loss and its codes derived again in numpy, which axis has length 1, and what a collapse looks like."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from objectives.test_equations import mean, run
from scipy.special import log_softmax
from support import toys
from support.toys import build

from jepa_speech.errors import UsageError
from jepa_speech.features.spectral import log_mel
from jepa_speech.nn.random_projection import code_ids, random_projection
from jepa_speech.objective_parts.collapse import code_usage, collapsed
from jepa_speech.objectives import best_rq

KEY = jax.random.PRNGKey(3)


def nearest(arrays: dict, x: np.ndarray, frame_axis: int = -1, code_axis: int = -1) -> np.ndarray:
    """Brute force in float64: x (B, T, F) -> (B, T, G), the nearest code, all of length 1 along an axis."""
    projections, codes = (np.asarray(arrays[name], np.float64) for name in ("projections", "codes"))
    projected = np.einsum("btf,gfd->gbtd", np.asarray(x, np.float64), projections)
    projected /= np.linalg.norm(projected, axis=frame_axis, keepdims=True)
    codes /= np.linalg.norm(codes, axis=code_axis, keepdims=True)
    distance = np.linalg.norm(projected[..., None, :] - codes[:, None, None], axis=-1)  # (G, B, T, V)
    return np.moveaxis(distance.argmin(-1), 0, -1)


def windows(wave: np.ndarray, length: int, window: int, size: int) -> np.ndarray:
    """The label windows of one recording, frame by frame: (S,) -> (T, window · 80) of whole windows."""
    count = (length - 400) // 160 + 1
    x = np.asarray(log_mel(np.stack([wave[160 * i : 160 * i + 400] for i in range(count)])), np.float64)[:, 0]
    x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    return np.stack([x[t * window : (t + 1) * window].ravel() for t in range(min(size, count // window))])


@pytest.mark.parametrize("frontend", ["subsampled", "logmel"])
def test_loss_and_figures(frontend):
    """At 25 Hz and at 50 Hz, with two books."""
    o, _, params, aux_state, everything = run(
        "best_rq", encoder={"frontend": frontend}, mask={"probability": 0.1}, objective={"books": 2}
    )
    assert set(params) == {"encoder", "head"}  # what is drawn does not learn
    terms, stats, view, encoded = everything(params, aux_state, 0)
    logits = np.asarray(encoded.z) @ np.asarray(params["head"]["kernel"]) + np.asarray(params["head"]["bias"])
    log_p = log_softmax(logits.reshape(*logits.shape[:2], 2, 8), -1)
    losses, labels = [], []
    for row, length in enumerate(np.asarray(view.lengths)):
        x = windows(np.asarray(view.clean[row]), length, {"subsampled": 4, "logmel": 2}[frontend], logits.shape[1])
        codes = nearest(aux_state, x[None])[0]  # (T, G)
        for t in np.flatnonzero(np.asarray(view.mask[row])[: len(codes)]):
            labels.append(codes[t])
            losses.append([-log_p[row, t, g, codes[t, g]] for g in range(2)])
    assert len(labels) > 10
    np.testing.assert_allclose(mean(terms["codes"]), np.mean(losses), rtol=1e-4)
    shares = np.stack([np.bincount(book, minlength=8) for book in np.transpose(labels)]) / len(labels)
    entropy = -(shares * np.log(np.maximum(shares, 1e-12))).sum(-1)
    figures = o.report(stats)
    np.testing.assert_allclose(figures["label_entropy"], entropy.mean(), rtol=1e-4)
    np.testing.assert_allclose(figures["code_usage"], entropy.mean() / np.log(8), rtol=1e-4)
    np.testing.assert_allclose(figures["code_utilisation"], (shares > 0).mean(), rtol=1e-6)


def test_frames_and_codes_have_length_1_over_their_own_dimension():
    """A positive scale for each frame changes no code; one for each band does. Twins with another axis fail."""
    arrays = random_projection(KEY, inputs=12, books=2, codes=32, width=4)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 30, 12)).astype(np.float32)
    loud = x * rng.uniform(0.1, 10, (2, 30, 1)).astype(np.float32)
    codes = code_ids(arrays, x)
    np.testing.assert_array_equal(codes, nearest(arrays, x))
    np.testing.assert_array_equal(codes, code_ids(arrays, loud))
    assert np.any(codes != code_ids(arrays, x * rng.uniform(0.1, 10, 12).astype(np.float32)))
    over_time = [nearest(arrays, y, frame_axis=2) for y in (x, loud)]
    assert np.any(over_time[0] != over_time[1])
    assert np.any(codes != nearest(arrays, x, code_axis=1))


def test_input_of_variance_1_uses_most_codes_and_zeros_have_the_first():
    arrays = random_projection(KEY, inputs=160, books=1, codes=512, width=16)
    codes = np.asarray(code_ids(arrays, jax.random.normal(KEY, (1, 4096, 160))))
    counts = jnp.bincount(codes.ravel(), length=512)
    assert (counts > 0).mean() >= 0.5
    assert code_usage(counts) > 0.8
    assert not code_ids(arrays, jnp.zeros((1, 3, 160))).any()


def usage(wave: jax.Array) -> dict[str, float]:
    arrays = random_projection(KEY, inputs=320, books=1, codes=64, width=16)
    x, _ = best_rq.label_windows(wave, jnp.array([wave.shape[1]]), wave.shape[1] // 640 - 1, 4)
    return {"code_usage": float(code_usage(jnp.bincount(code_ids(arrays, x).ravel(), length=64)))}


def test_a_collapse_is_an_alarm(monkeypatch):
    """Planted: the log-mel values of 16-bit samples without normalisation, all far above 0."""
    wave = jnp.asarray(32_768 * toys.toy_audio(1, 64_000))
    assert collapsed(usage(wave)) == ""
    monkeypatch.setattr(best_rq, "normalised", lambda x, lengths: x)
    assert "code usage" in collapsed(usage(wave))


@pytest.mark.parametrize("window", [2, 4])
def test_no_label_window_reaches_beyond_the_recording(window):
    lengths = np.array([399, 400, 560, 879, 880, 1039, 1040, 6000, 16_000])
    wave = jax.random.normal(KEY, (len(lengths), 16_000))
    inside = np.arange(16_000) < lengths[:, None]
    size = 16_000 // (160 * window)
    made: Callable = jax.jit(lambda wave: best_rq.label_windows(wave, jnp.asarray(lengths), size, window))
    (quiet, whole), (loud, _) = made(jnp.where(inside, wave, 0)), made(jnp.where(inside, wave, 9 * wave))
    end = 160 * (window * np.arange(1, size + 1) - 1) + 400  # of each frame's last log-mel window, in samples
    np.testing.assert_array_equal(whole, end <= lengths[:, None])
    np.testing.assert_array_equal(np.asarray(quiet)[np.asarray(whole)], np.asarray(loud)[np.asarray(whole)])


def test_bands_are_normalised_over_the_valid_frames_of_a_row():
    x = 3 + 2 * jax.random.normal(KEY, (2, 50, 4))
    y = np.asarray(best_rq.normalised(x, jnp.array([50, 30])))
    for row, length in zip(y, (50, 30), strict=True):
        np.testing.assert_allclose(row[:length].mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(row[:length].std(0), 1, atol=1e-4)
        assert not row[length:].any()


@pytest.mark.parametrize(
    ("name", "sections", "message"),
    [
        ("best_rq", {"encoder": {"frontend": "conv"}}, r"mask\.fill = noise: replaces log-mel frames"),
        ("w2v_bert", {"mask": {"fill": "noise"}}, r"mask\.fill = noise: masks the features that the quantiser needs"),
        ("best_rq", {"objective": {"books": 0}}, r"objective\.books = 0: expected 1"),
    ],
)
def test_what_cannot_be_is_refused(name, sections, message):
    with pytest.raises(UsageError, match=message):
        build(toys.toy_objective(name, **sections))
