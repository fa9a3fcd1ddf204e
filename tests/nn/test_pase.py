"""PASE's encoder against plain NumPy, its padding, and its published size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_speech.errors import UsageError
from jepa_speech.features.centred import HOP
from jepa_speech.nn.batch_norm import BatchNorm, fresh_running, mean_and_variance, update_running
from jepa_speech.nn.module import Pure
from jepa_speech.nn.pase import KERNELS, RATES, STRIDES, PaseEncoder, PaseEncoderConfig, reflect
from jepa_speech.nn.sinc import SincFilters
from jepa_speech.training.state import count_params

MAPS = (6, 5, 4, 6, 7, 5, 8, 9)
PLUS = PaseEncoderConfig(maps=MAPS, embedding=3, recurrent=5, dense=True)


def encoder(config: PaseEncoderConfig) -> Pure:
    return Pure(lambda rngs: PaseEncoder(config, rngs))


def perturbed(tree, seed: int = 0):
    """Every leaf moved, so that no parameter hides behind its neutral first value."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: x + 0.05 * rng.normal(size=x.shape).astype(np.float32), tree)


@pytest.fixture(scope="module")
def plus():
    """Parameters and running statistics of a tiny PASE+, and its compiled evaluation."""
    params = perturbed(jax.jit(encoder(PLUS).init)(jax.random.PRNGKey(0)))
    running = perturbed([fresh_running(width) for width in PLUS.norm_widths])
    return params, running, jax.jit(lambda wave, lengths: encoder(PLUS).apply(params, wave, lengths, None, running))


def plain_encoder(params: dict, running: list, wave: np.ndarray) -> np.ndarray:
    """One row (S,) -> (T, embedding): loops, np.pad and nothing else."""

    def normalised(x: np.ndarray, i: int) -> np.ndarray:
        return (x - running[i]["mean"]) / np.sqrt(running[i]["variance"] + 1e-5)

    low = 50 + np.abs(params["filters"]["low"])
    high = np.minimum(low + 50 + np.abs(params["filters"]["band"]), 8000)
    time = np.arange(-125, 126) / 16_000
    bands = np.cos(np.pi * np.outer(low + high, time)) * np.sinc(np.outer(high - low, time)) * np.hamming(251)
    kernels = [bands.T[:, None], *(params["convolutions"][i]["kernel"] for i in range(7))]
    x, skips = wave[: len(wave) // 160 * 160, None].astype(np.float64), 0
    for i, (kernel, width, stride) in enumerate(zip(kernels, KERNELS, STRIDES, strict=True)):
        left = width // 2 - 1 if stride > 1 or width % 2 == 0 else width // 2
        padded = np.pad(x, ((left, width // 2), (0, 0)), mode="reflect")
        windows = [padded[t : t + width] for t in range(0, len(padded) - width + 1, stride)]
        x = np.stack([np.tensordot(window, kernel, 2) for window in windows])
        x = normalised(x, i) * params["norms"][i]["scale"] + params["norms"][i]["bias"]
        x = np.where(x > 0, x, params["activations"][i]["slope"] * x)
        if i < 7:
            skips = skips + (x @ params["skips"][i]["kernel"]).reshape(len(wave) // 160, -1, 3).mean(1)
    state, before, out = 0.0, np.zeros(MAPS[-1]), []
    for frame in x:
        gates = np.concatenate([frame, before]) @ params["recurrent"]["gates"]["kernel"]
        z, f, o = np.split(gates + params["recurrent"]["gates"]["bias"], 3)
        forget = 1 / (1 + np.exp(-f))
        state = forget * np.tanh(z) + (1 - forget) * state
        out.append(state / (1 + np.exp(-o)))
        before = frame
    z = np.stack(out) @ params["out"]["kernel"] + params["out"]["bias"] + skips
    return normalised(z, 8)


def test_the_encoder_is_what_numpy_makes_of_it(plus):
    params, running, run = plus
    wave = np.random.default_rng(1).normal(0, 0.1, (1, 7 * HOP + 33)).astype(np.float32)
    out = run(wave, jnp.array([wave.size]))
    assert out.z.shape == (1, 7, 3) and out.frame_lengths.tolist() == [7]
    np.testing.assert_allclose(out.z[0], plain_encoder(params, running, wave[0]), atol=1e-4)


def test_padding_and_batch_mates_change_nothing_in_evaluation(plus):
    _, _, run = plus
    rng = np.random.default_rng(2)
    waves, lengths = rng.normal(0, 0.1, (3, 2000)).astype(np.float32), jnp.array([2000, 1375, 480])
    together = run(waves, lengths)  # the padding is noise instead of silence
    for row, length in ((1, 1375), (2, 480)):
        alone = run(waves[row : row + 1, :length], jnp.array([length]))
        assert together.frame_lengths[row] == length // HOP
        np.testing.assert_allclose(together.z[row, : length // HOP], alone.z[0], atol=1e-5)


def test_batch_statistics_leave_out_padding_and_fillers(plus):
    rng = np.random.default_rng(3)
    wave = rng.normal(size=(3, 1600)).astype(np.float32)
    params, *_ = plus
    run = jax.jit(lambda wave, weight: encoder(PLUS).apply(params, wave, jnp.array([1600, 800, 1600]), weight))
    first = run(wave, jnp.array([1.0, 1.0, 0.0]))
    wave[1, 800:], wave[2] = 100, 7
    second = run(wave, jnp.array([1.0, 1.0, 0.0]))
    np.testing.assert_allclose(first.z[0], second.z[0], atol=1e-5)
    np.testing.assert_allclose(first.z[1, :5], second.z[1, :5], atol=1e-5)
    valid_frames = np.concatenate([first.z[0], first.z[1, :5]])
    np.testing.assert_allclose(valid_frames.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(valid_frames.std(0), 1, atol=1e-3)
    assert [float(s.weight) for s in first.sums] == [rate * 15 for rate in (*RATES, 1)]


def test_sums_add_and_running_statistics_follow():
    x, weight = np.random.default_rng(4).normal(3, 2, (4, 50, 2)).astype(np.float32), np.ones((4, 50), np.float32)
    norm = Pure(lambda rngs: BatchNorm(2))
    params = norm.init(jax.random.PRNGKey(0))
    whole = norm.apply(params, x, weight)[1]
    parts = [norm.apply(params, x[i : i + 2], weight[i : i + 2])[1] for i in (0, 2)]
    jax.tree.map(lambda a, b, c: np.testing.assert_allclose(a + b, c, rtol=1e-5), *parts, whole)
    mean, variance = mean_and_variance(whole)
    np.testing.assert_allclose(mean, x.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(variance, x.var((0, 1)), rtol=1e-5)
    running = fresh_running(2)
    for _ in range(100):
        running = update_running(running, whole)
    np.testing.assert_allclose(running["variance"], x.var((0, 1)), rtol=1e-3)
    nothing = norm.apply(params, x, 0 * weight)[1]
    jax.tree.map(np.testing.assert_array_equal, update_running(running, nothing), running)


def test_reflection_is_numpys_row_by_row():
    x = np.random.default_rng(5).normal(size=(2, 9, 2))
    got = reflect(jnp.asarray(x), jnp.array([9, 7]), 3, 4)
    for row, length in ((0, 9), (1, 7)):
        expected = np.pad(x[row, :length], ((3, 4), (0, 0)), mode="reflect")
        np.testing.assert_array_equal(got[row, : len(expected)], expected.astype(np.float32))


def test_sinc_filters_start_side_by_side_on_the_mel_scale():
    params = Pure(lambda rngs: SincFilters(64, 251)).init(jax.random.PRNGKey(0))
    low, band = np.asarray(params["low"]), np.asarray(params["band"])
    assert low[0] == 30 and np.allclose(low[1:], low[:-1] + band[:-1], rtol=1e-5)
    assert low[-1] + band[-1] == pytest.approx(7900)
    mel = np.log10(1 + low / 700)
    np.testing.assert_allclose(np.diff(mel), np.diff(mel)[0], rtol=1e-3)


def test_published_sizes():
    """5.81M and 7.83M (recomputed from the released configs), without the biases that normalisation cancels."""
    plus = PaseEncoderConfig(embedding=256, recurrent=512, dense=True)
    for config, size in ((PaseEncoderConfig(), 5.81e6), (plus, 7.83e6)):
        params = jax.eval_shape(encoder(config).init, jax.random.PRNGKey(0))
        assert count_params(params) == pytest.approx(size, rel=0.002)


def test_maps_of_another_number_of_blocks_are_refused():
    with pytest.raises(UsageError, match="8 numbers"):
        PaseEncoderConfig(maps=(64, 64))
