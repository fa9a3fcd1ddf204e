"""The kernels, interpreted on the CPU, against what they stand for; and their lowering for a GPU, which needs none."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support.fake_devices import pretended_gpu

from jepa_speech.nn import conv_stack, layer_norm, norm_kernel
from jepa_speech.nn.conv_stack import CONVOLUTIONS, TimeNorm, convolutions, convolve
from jepa_speech.nn.convolution import windows
from jepa_speech.nn.layer_norm import LayerNorm
from jepa_speech.nn.norm_kernel import Options, norm_windows

CHANNELS = 64
KEYS = jax.random.split(jax.random.PRNGKey(0), 5)


def plain(x: jax.Array, scale: jax.Array, bias: jax.Array, options: Options) -> jax.Array:
    x = x[:, : options.samples]
    x = x if options.epsilon is None else jax.nn.standardize(x, epsilon=options.epsilon)
    x = x * jnp.broadcast_to(scale, (2, x.shape[-1]))[:, None] + jnp.broadcast_to(bias, (2, x.shape[-1]))[:, None]
    return windows(jax.nn.gelu(x, approximate=False) if options.gelu else x, options.size, options.stride)


@pytest.mark.parametrize(
    ("samples", "channels", "options"),  # several instances, no whole number of tiles, even and odd
    [
        (290, 64, Options(1e-5, True, 3, 2)),
        (259, 64, Options(None, True, 3, 2)),
        (290, 64, Options(1e-5, True, 2, 2)),
        (259, 64, Options(None, True)),
        (259, 64, Options(1e-5, True, 3, 2, samples=251, multiple=8)),  # of 251 frames 125 windows, and three more
        (70, 96, Options(1e-2)),  # a layer norm of a number of channels that is no power of two
    ],
)
def test_outputs_and_gradients(samples: int, channels: int, options: Options) -> None:
    affine = of_channels(channels)
    arrays = jax.random.normal(KEYS[0], (2, samples, channels)), *affine
    expected = jax.jit(there_and_back(lambda *a: plain(*a, options)))(*arrays)
    frames = expected[0].shape[1]
    whole = jax.eval_shape(lambda *a: interpreted(*a, options), *arrays)
    assert whole.shape[1] == -(-frames // options.multiple) * options.multiple
    got = jax.jit(there_and_back(lambda *a: interpreted(*a, options)[:, :frames]))(*arrays)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=5e-5)


def test_one_scale_and_bias_for_all_rows() -> None:
    arrays = jax.random.normal(KEYS[0], (2, 259, CHANNELS)), *(p[0] for p in of_channels(CHANNELS))
    options = Options(1e-5, True, 3, 2)
    ours, theirs = (jax.jit(there_and_back(partial(f, options=options)))(*arrays) for f in (interpreted, plain))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=5e-5)


def there_and_back(f: Callable) -> Callable:
    """arrays -> what f makes of them, and its cotangents for a random one of that."""

    def both(*arrays: Any) -> tuple:
        made, back = jax.vjp(f, *arrays)
        return made, *back(jax.random.normal(KEYS[3], made.shape))

    return both


def of_channels(channels: int) -> tuple[jax.Array, jax.Array]:
    """A scale and a bias (2, C)."""
    return 1 + jax.random.normal(KEYS[1], (2, channels)), jax.random.normal(KEYS[2], (2, channels))


def interpreted(x: jax.Array, scale: jax.Array, bias: jax.Array, options: Options) -> jax.Array:
    return norm_windows(x, scale, bias, options._replace(interpret=True))


def test_a_layer_norm_is_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    module = LayerNorm(96, jnp.float32, nnx.Rngs(0), 1e-3)
    module.scale[...], module.bias[...] = (p[0] for p in of_channels(96))
    x = jax.random.normal(KEYS[0], (2, 35, 96))
    expected = module(x)
    monkeypatch.setattr(layer_norm, "fits", lambda dtype, channels: True)
    monkeypatch.setattr(layer_norm, "norm_windows", interpreted)
    np.testing.assert_allclose(module(x), expected, atol=2e-6)
    assert "pallas_call" in str(jax.make_jaxpr(module)(x)) and "pallas_call" not in str(jax.make_jaxpr(module)(x[0]))


@pytest.mark.parametrize("norm", ["layer", "group"])
def test_a_front_end_is_what_it_was(monkeypatch: pytest.MonkeyPatch, norm: str) -> None:
    rngs = nnx.Rngs(0)
    layer = partial(nnx.LayerNorm, CHANNELS, use_fast_variance=False, rngs=rngs) if norm == "layer" else None
    made, norms = convolutions(CHANNELS, norm == "layer", layer, jnp.float32, rngs)
    norms = norms if layer else [TimeNorm(CHANNELS)]
    for i, part in enumerate(norms):
        part.scale[...], part.bias[...] = (jax.random.normal(key, CHANNELS) for key in jax.random.split(KEYS[i % 5]))
    modules = nnx.List([made, nnx.List(norms)])
    graph, parameters = nnx.split(modules)
    wave, lengths = jax.random.normal(KEYS[0], (2, 1900)), jnp.array([1900, 1400])

    def run(parameters: nnx.State, wave: jax.Array) -> jax.Array:
        made, norms = nnx.merge(graph, parameters)
        return convolve(wave, lengths, made, norms)

    expected = jax.jit(there_and_back(run))(parameters, wave)
    monkeypatch.setattr(conv_stack, "fits", lambda dtype, channels: True)
    monkeypatch.setattr(conv_stack, "norm_windows", interpreted)
    got = jax.jit(there_and_back(lambda *a: run(*a)))(parameters, wave)  # another function: traced anew
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * max(1, np.abs(b).max()))


def test_it_is_for_gpus_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    half = jnp.dtype("bfloat16")
    assert not norm_kernel.fits(half, 512)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert norm_kernel.fits(half, 512)
    assert not norm_kernel.fits(jnp.dtype("float32"), 512) and not norm_kernel.fits(half, 2048)
    monkeypatch.setenv("JEPA_SPEECH_KERNELS", "0")
    assert not norm_kernel.fits(half, 512)


@pytest.mark.parametrize("alike", [True, False])
def test_devices_share_out_rows_and_send_nothing_but_sums(alike: bool) -> None:
    mesh = jax.make_mesh((2,), ("data",), (jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.P("data"))
    x = jax.random.normal(KEYS[0], (2, 70, CHANNELS))

    def gradients(*arrays: jax.Array) -> tuple:
        def loss(*a: jax.Array) -> jax.Array:
            return jnp.sin(interpreted(*a, Options(1e-5, True, 3, 2))).sum()

        return jax.grad(loss, argnums=(0, 1, 2))(*arrays)

    affine = [p[0] for p in of_channels(CHANNELS)] if alike else of_channels(CHANNELS)
    arrays, everywhere = (x, *affine), jax.sharding.NamedSharding(mesh, jax.P())
    placed = [jax.device_put(a, everywhere if a.ndim == 1 else rows) for a in arrays]
    compiled = jax.jit(gradients).lower(*placed).compile()
    assert not [word for word in ("all-gather", "all-to-all", "collective-permute") if word in compiled.as_text()]
    for got, expected in zip(compiled(*placed), jax.jit(gradients)(*arrays), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")  # jax 0.11
@pytest.mark.parametrize("reach", sorted({*CONVOLUTIONS[1:], (1, 1)}))
def test_the_kernels_lower_for_a_gpu(monkeypatch: pytest.MonkeyPatch, reach: tuple[int, int]) -> None:
    for name in ("_outputs", "_gradients"):  # how devices share them out asks for the devices
        monkeypatch.setattr(norm_kernel, name, getattr(norm_kernel, f"{name}_of"))

    def loss(*a: jax.Array) -> jax.Array:
        return jnp.sin(norm_windows(*a, Options(1e-5, True, *reach)).astype(jnp.float32)).sum()

    width = jax.ShapeDtypeStruct((768,), jnp.float32)
    arrays = (jax.ShapeDtypeStruct((2, 4999, 768), jnp.bfloat16), width, width)
    with pretended_gpu():
        text = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).trace(*arrays).lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("_kernel") >= 2  # there and back
