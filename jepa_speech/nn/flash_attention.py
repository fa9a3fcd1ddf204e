"""Attention that never holds its (B, H, T, T) weights, on a GPU: FlashAttention-2 (arXiv 2307.08691, algorithms 1, 2).

Beyond the paper: dropout of weights by the draws of nn/row_random.py, computed where needed, forward and backward,
so that they are those of plain attention, bit for bit; and a bias that rows share (WavLM's), with a gate a query, whose
product (B, H, T, T) is never held: only the gradient of the bias is written out by rows, as precise as the queries are,
and summed. A kernel instance sees one block of queries or of keys. Devices share out rows, and send nothing.

2026-11: jax 0.11 and 0.12 warn that a future version removes pallas.triton. The replacements are pallas.mosaic_gpu (on
Hopper and later) and jax_triton. Plain attention (JEPA_SPEECH_KERNELS=0) computes the same.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from jepa_speech.nn.batch_sharding import by_rows
from jepa_speech.nn.row_random import draw, table_draws, threshold
from jepa_speech.platform import kernels_wanted

NEVER = -1e30  # a logit that gets no weight
LOG2_E = 1.4426950408889634
# The fastest of some thirty ways on an H100, forward and backward, for heads of 64 channels (benchmarks/NOTES.md).
TILE = 64  # frames of the block, of queries or of keys, that an instance owns, and of those that it goes through
WARPS, STAGES = 4, 3


def fits(query: jax.Array) -> bool:
    """Whether to use it: on a GPU, in bfloat16, for heads of 16 to 128 channels; never with JEPA_SPEECH_KERNELS=0."""
    return kernels_wanted() and query.dtype == jnp.bfloat16 and query.shape[-1] in (16, 32, 64, 128)


class Options(NamedTuple):
    rate: float  # of dropout
    biased: bool
    interpret: bool


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    lengths: jax.Array,
    keys: jax.Array | None = None,
    rate: float = 0.0,
    bias: jax.Array | None = None,
    gate: jax.Array | None = None,
    interpret: bool = False,
) -> jax.Array:
    """dropout(softmax(q kᵀ + gate bias)) v over each row's valid frames; query, already scaled, key, value
    (B, T, H, C) -> same.

    lengths (B,) frames, at least 1; keys (B,) of the rows, None without dropout; bias (H, T, T) from query to key, and
    gate (B, H, T) of the queries, both float32, or neither.
    """
    rows, frames, heads, _ = query.shape
    options = Options(0.0 if keys is None else rate, bias is not None, interpret)
    draws = jnp.zeros((rows, heads, frames), jnp.uint32), jnp.zeros((rows, frames), jnp.uint32)
    if options.rate and keys is not None:
        draws = table_draws(keys, heads, frames, frames)
    # What has no channels is filled up to whole tiles; every block of an encoder does it to the same bias: XLA once.
    more, kept = (0, -frames % TILE), (0, 0)
    draws = jnp.pad(draws[0], (kept, kept, more)), jnp.pad(draws[1], (kept, more))
    padded = (
        () if bias is None or gate is None else (jnp.pad(bias, (kept, more, more)), jnp.pad(gate, (kept, kept, more)))
    )
    return _attend(options, query, key, value, lengths, *draws, *padded)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(options: Options, *arrays: jax.Array) -> jax.Array:
    return _forward(options, *arrays)[0]


def _forward(options: Options, *arrays: jax.Array) -> tuple[jax.Array, tuple]:
    out, total = (_biased_outputs if options.biased else _outputs)(options, *arrays)
    return out, (arrays, out, total)


def _backward(options: Options, kept: tuple, gradient: jax.Array) -> tuple:
    arrays, out, total = kept
    arrays, biases = arrays[:6], arrays[6:]
    # Σ_s P dP, which is the same with dropout: the output holds it already (section 2.2).
    delta = jnp.einsum("bthc,bthc->bht", gradient.astype(jnp.float32), out.astype(jnp.float32))
    delta = jnp.pad(delta, ((0, 0), (0, 0), (0, total.shape[2] - delta.shape[2])))
    arrays = (*arrays, gradient, total, delta)
    if not options.biased:
        return *_gradients(options, *arrays), None, None, None
    *gradients, by_row, dgate = _biased_gradients(options, *arrays, *biases)
    return *gradients, None, None, None, by_row.sum(0, dtype=biases[0].dtype), dgate


_attend.defvjp(_forward, _backward)


def _outputs_of(options: Options, *arrays: jax.Array) -> tuple[jax.Array, jax.Array]:
    query, left = arrays[0], arrays[4]
    whole, tiled = _whole(query), left.shape[2]
    biases = [_from_queries(tiled), _STATS] if options.biased else []
    return _call(
        options,
        _forward_kernel,
        arrays,
        [whole, whole, whole, _ROW, _STATS, _all_keys(tiled), *biases],
        [jax.ShapeDtypeStruct(query.shape, query.dtype), jax.ShapeDtypeStruct(left.shape, jnp.float32)],
        [whole, _STATS],
    )


def _gradients_of(options: Options, *arrays: jax.Array) -> tuple[jax.Array, ...]:
    query, left = arrays[0], arrays[4]
    whole, tiled = _whole(query), left.shape[2]
    stats, like = _all_stats(tiled), jax.ShapeDtypeStruct(query.shape, query.dtype)
    places = [whole, whole, whole, _ROW, stats, _KEYS, whole, stats, stats]
    places += [_to_keys(tiled), stats] if options.biased else []
    dkey, dvalue = _call(options, _keys_kernel, arrays, places, [like, like], [whole, whole])

    places, shapes, outcomes = [whole] * 3 + [_ROW, _STATS, _all_keys(tiled), whole, _STATS, _STATS], [like], [whole]
    if options.biased:
        places += [_from_queries(tiled), _STATS]
        shapes += [jax.ShapeDtypeStruct((*left.shape, tiled), query.dtype)]
        shapes += [jax.ShapeDtypeStruct(left.shape, jnp.float32)]
        outcomes += [_row_from_queries(tiled), _STATS]
    dquery, *dbiases = _call(options, _queries_kernel, arrays, places, shapes, outcomes)
    return dquery, dkey, dvalue, *dbiases


# The bias, which has no rows, is whole on every device; its gradient is by rows still.
_WAVES, _BIASES = "b t h c, b t h c, b t h c", "h q k, b h q"
_BEFORE, _AFTER = f"{_WAVES}, b, b h q, b k", "b t h c, b h q"
_outputs = by_rows(f"{_BEFORE} -> {_AFTER}")(_outputs_of)
_biased_outputs = by_rows(f"{_BEFORE}, {_BIASES} -> {_AFTER}")(_outputs_of)
_gradients = by_rows(f"{_BEFORE}, {_AFTER}, b h q -> {_WAVES}")(_gradients_of)
_biased_gradients = by_rows(f"{_BEFORE}, {_AFTER}, b h q, {_BIASES} -> {_WAVES}, b {_BIASES}")(_gradients_of)


# Tiles of waves, whose last frames are no whole one: zeros are read beyond, and nothing is written.
def _load(ref: Any, block: Any) -> jax.Array:
    return triton.load(ref.at[block, :], mask=_there(ref, block), other=0)


def _store(ref: Any, block: Any, x: jax.Array) -> None:
    triton.store(ref.at[block, :], x.astype(ref.dtype), mask=_there(ref, block))


def _there(ref: Any, block: Any) -> jax.Array:
    frames, channels = ref.shape
    return jnp.broadcast_to((block.start + jnp.arange(TILE) < frames)[:, None], (TILE, channels))


def _reach(logits: jax.Array, first_key: Any, length: jax.Array) -> jax.Array:
    """Logits (Q, K) of a block, those of keys beyond the row's length out of reach."""
    return jnp.where((first_key + jnp.arange(TILE) < length)[None, :], logits, NEVER)


def _exp(x: jax.Array, less: jax.Array) -> jax.Array:
    """exp(x - less), in half as many operations as exp has in Triton."""
    return jnp.exp2(x * LOG2_E - less * LOG2_E)


def _kept(weights: jax.Array, left: jax.Array, right: jax.Array, rate: float) -> jax.Array:
    """weights (Q, K) of a block after dropout, or what flows back through it: times 1 - rate."""
    if rate == 0:
        return weights
    return jnp.where(draw(left[:, None], right[None, :]) >= threshold(rate), weights, 0.0)


# The refs of each kernel: of bias and gate, where there are any, then of what it computes.
def _forward_kernel(*refs: Any, options: Options) -> None:
    q_ref, k_ref, v_ref, length_ref, left_ref, right_ref, *others = refs
    bias_ref, gate_ref, out_ref, total_ref = others if options.biased else (None, None, *others)
    own, length, left = pl.ds(pl.program_id(2) * TILE, TILE), length_ref[...], left_ref[...]
    query, gate = _load(q_ref, own), gate_ref[...][:, None] if options.biased else None

    def body(j: jax.Array, carry: tuple) -> tuple:
        out, highest, total = carry
        block = pl.ds(j * TILE, TILE)
        logits = _dot(query, _load(k_ref, block).T)
        if options.biased:
            logits += gate * bias_ref[:, block]
        logits = _reach(logits, block.start, length)
        new = jnp.maximum(highest, logits.max(1))
        weights, shrink = _exp(logits, new[:, None]), _exp(highest, new)
        value, kept = _load(v_ref, block), _kept(weights, left, right_ref[block], options.rate)
        out = out * shrink[:, None] + _dot(kept.astype(value.dtype), value)
        return out, new, total * shrink + weights.sum(1)

    start = jnp.zeros(query.shape, jnp.float32), jnp.full(TILE, NEVER, jnp.float32), jnp.zeros(TILE, jnp.float32)
    out, highest, total = jax.lax.fori_loop(0, pl.cdiv(k_ref.shape[0], TILE), body, start)
    _store(out_ref, own, out / (total * (1 - options.rate))[:, None])
    total_ref[...] = highest + jnp.log(total)


def _keys_kernel(*refs: Any, options: Options) -> None:
    q_ref, k_ref, v_ref, length_ref, left_ref, right_ref, g_ref, total_ref, delta_ref, *others = refs
    bias_ref, gate_ref, dk_ref, dv_ref = others if options.biased else (None, None, *others)
    own, length, right = pl.ds(pl.program_id(2) * TILE, TILE), length_ref[...], right_ref[...]
    key, value = _load(k_ref, own), _load(v_ref, own)

    def body(i: jax.Array, carry: tuple) -> tuple:
        dkey, dvalue = carry
        block = pl.ds(i * TILE, TILE)
        query, gradient, left = _load(q_ref, block), _load(g_ref, block), left_ref[block]
        logits = _dot(query, key.T)
        if options.biased:
            logits += gate_ref[block][:, None] * bias_ref[block, :]
        weights = _exp(_reach(logits, own.start, length), total_ref[block][:, None])
        kept = _kept(weights, left, right, options.rate)
        dvalue += _dot(kept.astype(value.dtype).T, gradient)
        dkept = _kept(_dot(gradient, value.T), left, right, options.rate)
        dlogits = weights * (dkept * (1 / (1 - options.rate)) - delta_ref[block][:, None])
        return dkey + _dot(dlogits.astype(query.dtype).T, query), dvalue

    zeros = jnp.zeros(key.shape, jnp.float32)
    dkey, dvalue = jax.lax.fori_loop(0, pl.cdiv(q_ref.shape[0], TILE), body, (zeros, zeros))
    _store(dk_ref, own, dkey)
    _store(dv_ref, own, dvalue * (1 / (1 - options.rate)))


def _queries_kernel(*refs: Any, options: Options) -> None:
    q_ref, k_ref, v_ref, length_ref, left_ref, right_ref, g_ref, total_ref, delta_ref, *others = refs
    bias_ref, gate_ref, dq_ref, *dbias_refs = others if options.biased else (None, None, *others)
    own, length, left = pl.ds(pl.program_id(2) * TILE, TILE), length_ref[...], left_ref[...]
    query, gradient = _load(q_ref, own), _load(g_ref, own)
    total, delta = total_ref[...][:, None], delta_ref[...][:, None]
    gate = gate_ref[...][:, None] if options.biased else None

    def body(j: jax.Array, carry: tuple) -> tuple:
        dquery, *dgate = carry
        block = pl.ds(j * TILE, TILE)
        key, value = _load(k_ref, block), _load(v_ref, block)
        logits = _dot(query, key.T)
        if options.biased:
            bias = bias_ref[:, block]
            logits += gate * bias
        weights = _exp(_reach(logits, block.start, length), total)
        dkept = _kept(_dot(gradient, value.T), left, right_ref[block], options.rate)
        dlogits = weights * (dkept * (1 / (1 - options.rate)) - delta)
        if options.biased:
            dbias_refs[0][:, block] = (gate * dlogits).astype(dbias_refs[0].dtype)
            dgate = [dgate[0] + (dlogits * bias).sum(1)]
        return dquery + _dot(dlogits.astype(key.dtype), key), *dgate

    zeros = (jnp.zeros(query.shape, jnp.float32), *([jnp.zeros(TILE, jnp.float32)] if options.biased else []))
    dquery, *dgate = jax.lax.fori_loop(0, pl.cdiv(k_ref.shape[0], TILE), body, zeros)
    _store(dq_ref, own, dquery)
    if options.biased:
        dbias_refs[1][...] = dgate[0]


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.dot(a, b, preferred_element_type=jnp.float32)


# Which part of an array an instance (row, head, block) sees.
def _whole(x: jax.Array) -> pl.BlockSpec:
    """All frames of x (B, T, H, C): an instance chooses its own."""
    return pl.BlockSpec((None, x.shape[1], None, x.shape[3]), lambda b, h, i: (b, 0, h, 0))


def _from_queries(frames: int) -> pl.BlockSpec:
    return pl.BlockSpec((None, TILE, frames), lambda b, h, i: (h, i, 0))


def _row_from_queries(frames: int) -> pl.BlockSpec:
    return pl.BlockSpec((None, None, TILE, frames), lambda b, h, i: (b, h, i, 0))


def _to_keys(frames: int) -> pl.BlockSpec:
    return pl.BlockSpec((None, frames, TILE), lambda b, h, i: (h, 0, i))


def _all_keys(frames: int) -> pl.BlockSpec:
    return pl.BlockSpec((None, frames), lambda b, h, i: (b, 0))


def _all_stats(frames: int) -> pl.BlockSpec:
    return pl.BlockSpec((None, None, frames), lambda b, h, i: (b, h, 0))


_STATS = pl.BlockSpec((None, None, TILE), lambda b, h, i: (b, h, i))
_ROW = pl.BlockSpec((None,), lambda b, h, i: (b,))
_KEYS = pl.BlockSpec((None, TILE), lambda b, h, i: (b, i))


def _call(options: Options, kernel: Any, arrays: Sequence, specs: list, shapes: list, out_specs: list) -> tuple:
    rows, frames, heads, _ = arrays[0].shape
    return pl.pallas_call(
        partial(kernel, options=options),
        grid=(rows, heads, pl.cdiv(frames, TILE)),
        in_specs=specs,
        out_specs=out_specs,
        out_shape=shapes,
        compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=STAGES),
        interpret=options.interpret,
    )(*arrays)
