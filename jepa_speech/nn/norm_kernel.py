"""Layer norm, GELU and a convolution's windows as one kernel on a GPU, and one back.

The operations between two products are bound by memory: the first convolution's output alone has 0.8 GB for 16
recordings of 15.6 s. The kernel reads it once and writes the input of the next product. No other array is kept for the
backward pass.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton  # 2026-11: to be removed; see nn/flash_attention.py
from jax.typing import DTypeLike

from jepa_speech.nn.batch_sharding import by_rows
from jepa_speech.nn.gelu import normal
from jepa_speech.platform import kernels_wanted

# Elements that an instance reads at a time, there and back: the fastest of some on an H100 (benchmarks/NOTES.md).
WARPS, OUT, BACK = 4, 4096, 2048
TURNS, INSTANCES = 32, 32  # backward: at most so many times, and at least so many instances a row


def fits(dtype: DTypeLike | None, channels: int) -> bool:
    """Whether to use it: on a GPU, in bfloat16, for 64 to 1024 channels; never with JEPA_SPEECH_KERNELS=0."""
    return kernels_wanted() and dtype == jnp.bfloat16 and 64 <= channels <= 1024


class Options(NamedTuple):
    epsilon: float | None = None  # of the layer norm over channels; None: there is none
    gelu: bool = False
    size: int = 1  # frames of a window
    stride: int = 1
    samples: int | None = None  # S, if x has more, which count for nothing and get no gradient; None: all
    multiple: int = 1  # of windows: beyond T there may be more, of numbers that mean nothing
    interpret: bool = False


def norm_windows(x: jax.Array, scale: jax.Array, bias: jax.Array, options: Options) -> jax.Array:
    """Windows of GELU(x̂ · scale + bias), x̂ being x or its layer norm: x (B, S, C) -> (B, T, size, C).

    scale, bias (C,) or (B, C) float32. T = floor((S - size) / stride) + 1; windows of [stride t, stride t + size).
    """
    options = options if options.samples else options._replace(samples=x.shape[1])
    return _windows(options, x, scale, bias)


def frames_of(options: Options) -> int:
    """T."""
    assert options.samples is not None  # norm_windows has filled it in
    return (options.samples - options.size) // options.stride + 1


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _windows(options: Options, x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    return (_outputs if scale.ndim == 1 else _outputs_by_row)(options, x, scale, bias)[0]


def _forward(options: Options, *arrays: jax.Array) -> tuple[jax.Array, tuple]:
    return _windows(options, *arrays), arrays


def _backward(options: Options, kept: tuple, gradient: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    alike = kept[1].ndim == 1  # scale and bias are the same for all rows
    dx, dscale, dbias = (_gradients if alike else _gradients_by_row)(options, *kept, gradient)
    axes = (0, 1) if alike else 1
    return dx, dscale.sum(axes), dbias.sum(axes)


_windows.defvjp(_forward, _backward)


def _outputs_of(options: Options, x: jax.Array, scale: jax.Array, bias: jax.Array) -> tuple[jax.Array]:
    rows, _, channels = x.shape
    frames = -(-frames_of(options) // options.multiple) * options.multiple
    shape, reach = (frames, options.size, channels), frames + (options.size - 1) // options.stride
    return pl.pallas_call(
        partial(_outputs_kernel, options=options),
        grid=(rows, pl.cdiv(reach, _tile(OUT, channels, options))),
        in_specs=[_row(x.shape[1:]), _affine(scale), _affine(bias)],
        out_specs=[_row(shape)],
        out_shape=[jax.ShapeDtypeStruct((rows, *shape), x.dtype)],
        compiler_params=triton.CompilerParams(num_warps=WARPS),
        interpret=options.interpret,
    )(x, scale, bias)


def _gradients_of(
    options: Options, x: jax.Array, scale: jax.Array, bias: jax.Array, gradient: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of x, and of scale and bias as sums of one instance each."""
    rows, samples, channels = x.shape
    tile = options.stride * _tile(BACK, channels, options)
    turns = min(TURNS, max(1, samples // (tile * INSTANCES)))
    instances = pl.cdiv(samples, tile * turns)
    sums = jax.ShapeDtypeStruct((rows, instances, channels), jnp.float32)
    one = pl.BlockSpec((None, None, channels), lambda b, i: (b, i, 0))
    return pl.pallas_call(
        partial(_gradients_kernel, options=options, turns=turns),
        grid=(rows, instances),
        in_specs=[_row(x.shape[1:]), _affine(scale), _affine(bias), _row(gradient.shape[1:])],
        out_specs=[_row(x.shape[1:]), one, one],
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype), sums, sums],
        compiler_params=triton.CompilerParams(num_warps=WARPS),
        interpret=options.interpret,
    )(x, scale, bias, gradient)


def _row(shape: tuple[int, ...]) -> pl.BlockSpec:
    """All of a row: an instance chooses its frames itself, the last ones not whole."""
    return pl.BlockSpec((None, *shape), lambda b, i: (b, *[0] * len(shape)))


def _affine(parameter: jax.Array) -> pl.BlockSpec:
    shape = parameter.shape[-1:]
    return _row(shape) if parameter.ndim == 2 else pl.BlockSpec(shape, lambda b, i: (0,))


_outputs = by_rows("b s c, c, c -> b t w c")(_outputs_of)
_outputs_by_row = by_rows("b s c, b c, b c -> b t w c")(_outputs_of)
_gradients = by_rows("b s c, c, c, b t w c -> b s c, b n c, b n c")(_gradients_of)
_gradients_by_row = by_rows("b s c, b c, b c, b t w c -> b s c, b n c, b n c")(_gradients_of)


def _tile(elements: int, channels: int, options: Options) -> int:
    """Strides that so many elements have."""
    return elements // (options.stride * pl.next_power_of_2(channels))


def _outputs_kernel(x_ref: Any, scale_ref: Any, bias_ref: Any, out_ref: Any, *, options: Options) -> None:
    assert options.samples is not None
    count, channel = _tile(OUT, x_ref.shape[1], options), _channel(x_ref)
    frame = (pl.program_id(1) * count + jnp.arange(count))[:, None]
    scale, bias = _load(scale_ref, (channel,)), _load(bias_ref, (channel,))
    for part in range(options.stride):
        sample = frame * options.stride + part
        x = _load(x_ref, (sample, channel), sample < options.samples)
        y = _normed(x, channel, x_ref, options.epsilon)[0] * scale + bias
        if options.gelu:
            y = y * normal(y)[0]
        for i, window, there in _windows_of(frame, part, out_ref.shape[0], options):
            _store(out_ref, (window, i, channel), y, there)


def _gradients_kernel(*refs: Any, options: Options, turns: int) -> None:
    x_ref, scale_ref, bias_ref, g_ref, dx_ref, dscale_ref, dbias_ref = refs
    samples = options.samples
    assert samples is not None
    first, channel = pl.program_id(1) * turns, _channel(x_ref)
    count = _tile(BACK, x_ref.shape[1], options)
    scale, bias = _load(scale_ref, (channel,)), _load(bias_ref, (channel,))

    def body(turn: jax.Array, sums: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        dscale, dbias = sums
        frame = ((first + turn) * count + jnp.arange(count))[:, None]
        for part in range(options.stride):
            sample, dy = frame * options.stride + part, jnp.zeros((count, channel.shape[1]), jnp.float32)
            for i, window, there in _windows_of(frame, part, frames_of(options), options):
                dy += _load(g_ref, (window, i, channel), there)
            x = _load(x_ref, (sample, channel), sample < samples)
            normed, spread = _normed(x, channel, x_ref, options.epsilon)
            if options.gelu:
                y = normed * scale + bias
                below, density = normal(y)
                dy *= below + y * density
            dscale, dbias = dscale + dy * normed, dbias + dy
            dx = dy * scale
            if options.epsilon is not None:
                dx = spread * (dx - _mean(dx, x_ref) - normed * _mean(dx * normed, x_ref))
            _store(dx_ref, (sample, channel), dx, sample < dx_ref.shape[0])
        return dscale, dbias

    zeros = jnp.zeros((count, channel.shape[1]), jnp.float32)
    dscale, dbias = jax.lax.fori_loop(0, turns, body, (zeros, zeros))
    _store(dscale_ref, (channel,), dscale.sum(0, keepdims=True))
    _store(dbias_ref, (channel,), dbias.sum(0, keepdims=True))


def _windows_of(frame: jax.Array, part: int, count: int, options: Options) -> Iterator[tuple]:
    """Where the sample stride · frame + part lies in windows: its place in one, which one, and whether there is one."""
    for i in range(part, options.size, options.stride):
        window = frame - i // options.stride
        yield i, jnp.maximum(window, 0), (window >= 0) & (window < count)


def _channel(x_ref: Any) -> jax.Array:
    """Channels (1, N), a power of two: more than there are, maybe."""
    return jnp.arange(pl.next_power_of_2(x_ref.shape[1]))[None]


def _load(ref: Any, place: tuple, chosen: jax.Array | None = None) -> jax.Array:
    """The frames of place that are chosen (N, 1), zeros for others and for channels that are not there."""
    return triton.load(ref.at[place], mask=_mask(ref, place, chosen), other=0.0).astype(jnp.float32)


def _store(ref: Any, place: tuple, x: jax.Array, chosen: jax.Array | None = None) -> None:
    triton.store(ref.at[place], x.astype(ref.dtype), mask=_mask(ref, place, chosen))


def _mask(ref: Any, place: tuple, chosen: jax.Array | None) -> jax.Array:
    mask = place[-1] < ref.shape[-1]
    mask = mask if chosen is None else mask & chosen
    return jnp.broadcast_to(mask, (1 if chosen is None else len(chosen), place[-1].shape[1]))


def _normed(x: jax.Array, channel: jax.Array, x_ref: Any, epsilon: float | None) -> tuple[jax.Array, Any]:
    """Layer norm of x (N, C) without gain, and 1 over its deviation (N, 1); or x."""
    if epsilon is None:
        return x, 1
    x = jnp.where(channel < x_ref.shape[1], x - _mean(x, x_ref), 0)
    spread = jax.lax.rsqrt(_mean(x * x, x_ref) + epsilon)
    return x * spread, spread


def _mean(x: jax.Array, x_ref: Any) -> jax.Array:
    return x.sum(1, keepdims=True) / x_ref.shape[1]
