"""Attention that never holds its (B, H, T, T) weights, on a GPU: FlashAttention-2 (arXiv 2307.08691, algorithms 1, 2).

Beyond the paper: dropout of weights by the draws of nn/rows.py, computed where they are needed, forward and backward,
so that they are those of plain attention, bit for bit; and a bias that rows share (WavLM's), with a gate a query, whose
product (B, H, T, T) is never held: only the gradient of the bias is written out by rows, as precise as the queries are,
and summed. A kernel instance sees one block of queries or of keys. Devices share out rows, and send nothing.

jax 0.11 says that a later version drops this way of writing kernels (pallas.triton): setup.py's bound on jax stands for
it, and plain attention computes the same.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from jepa_speech.nn.by_rows import by_rows
from jepa_speech.nn.gpu import kernels_wanted
from jepa_speech.nn.rows import draws, threshold

NEVER = -1e30  # a logit that gets no weight
# The fastest of some thirty ways on an H100, forward and backward, for heads of 64 channels (benchmarks/NOTES.md).
TILE = 64  # frames of the block, of queries or of keys, that an instance owns, and of those that it goes through
WARPS, STAGES = 4, 3


def fits(query: jax.Array) -> bool:
    """Whether to use it: on a GPU, in bfloat16, for heads of 16 to 128 channels; never with JEPA_SPEECH_KERNELS=0."""
    return kernels_wanted() and query.dtype == jnp.bfloat16 and query.shape[-1] in (16, 32, 64, 128)


class Options(NamedTuple):
    rate: float  # of dropout
    frames: int  # T before padding: draws count by it
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
    frames = query.shape[1]
    options = Options(0.0 if keys is None else rate, frames, bias is not None, interpret)
    words = jnp.zeros((len(query), 2), jnp.uint32) if keys is None else jax.random.key_data(keys)
    more = (0, -frames % TILE)
    query, key, value = (jnp.pad(x, ((0, 0), more, (0, 0), (0, 0))) for x in (query, key, value))
    biases = ()
    if bias is not None:
        # Every block of an encoder pads the same bias: XLA does it once.
        biases = jnp.pad(bias, ((0, 0), more, more)), jnp.pad(gate, ((0, 0), (0, 0), more))
    return _attend(options, query, key, value, lengths, words, *biases)[:, :frames]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(options: Options, *arrays: jax.Array) -> jax.Array:
    return _forward(options, *arrays)[0]


def _forward(options: Options, *arrays: jax.Array) -> tuple[jax.Array, tuple]:
    out, total = (_biased_outputs if options.biased else _outputs)(options, *arrays)
    return out, (arrays, out, total)


def _backward(options: Options, kept: tuple, gradient: jax.Array) -> tuple:
    arrays, out, total = kept
    arrays, biases = arrays[:5], arrays[5:]
    # Σ_s P dP, which is the same with dropout: the output holds it already (section 2.2).
    delta = jnp.einsum("bthc,bthc->bht", gradient.astype(jnp.float32), out.astype(jnp.float32))
    arrays = (*arrays, gradient, total, delta)
    if not options.biased:
        return *_gradients(options, *arrays), None, None
    *gradients, by_row, dgate = _biased_gradients(options, *arrays, *biases)
    return *gradients, None, None, by_row.sum(0, dtype=biases[0].dtype), dgate


_attend.defvjp(_forward, _backward)


def _outputs_of(options: Options, *arrays: jax.Array) -> tuple[jax.Array, jax.Array]:
    query = arrays[0]
    rows, frames, heads, channels = query.shape
    own, whole = _tile(channels), _whole(frames, channels)
    biases = [_from_queries(frames), _STATS] if options.biased else []
    return _call(
        options,
        _forward_kernel,
        arrays,
        [own, whole, whole, _ROW, _WORDS, *biases],
        [jax.ShapeDtypeStruct(query.shape, query.dtype), jax.ShapeDtypeStruct((rows, heads, frames), jnp.float32)],
        [own, _STATS],
    )


def _gradients_of(options: Options, *arrays: jax.Array) -> tuple[jax.Array, ...]:
    query = arrays[0]
    rows, frames, heads, channels = query.shape
    own, whole, stats = _tile(channels), _whole(frames, channels), _all_stats(frames)
    like = jax.ShapeDtypeStruct(query.shape, query.dtype)
    places = [whole, own, own, _ROW, _WORDS, whole, stats, stats]
    places += [_to_keys(frames), stats] if options.biased else []
    dkey, dvalue = _call(options, _keys_kernel, arrays, places, [like, like], [own, own])

    places, shapes, outcomes = [own, whole, whole, _ROW, _WORDS, own, _STATS, _STATS], [like], [own]
    if options.biased:
        places += [_from_queries(frames), _STATS]
        shapes += [jax.ShapeDtypeStruct((rows, heads, frames, frames), query.dtype)]
        shapes += [jax.ShapeDtypeStruct((rows, heads, frames), jnp.float32)]
        outcomes += [_row_from_queries(frames), _STATS]
    dquery, *dbiases = _call(options, _queries_kernel, arrays, places, shapes, outcomes)
    return dquery, dkey, dvalue, *dbiases


# The bias, which has no rows, is whole on every device; its gradient is by rows still.
_WAVES, _BIASES = "b t h c, b t h c, b t h c", "h t s, b h t"
_BEFORE, _AFTER = f"{_WAVES}, b, b w", "b t h c, b h t"
_outputs = by_rows(f"{_BEFORE} -> {_AFTER}")(_outputs_of)
_biased_outputs = by_rows(f"{_BEFORE}, {_BIASES} -> {_AFTER}")(_outputs_of)
_gradients = by_rows(f"{_BEFORE}, {_AFTER}, b h t -> {_WAVES}")(_gradients_of)
_biased_gradients = by_rows(f"{_BEFORE}, {_AFTER}, b h t, {_BIASES} -> {_WAVES}, b {_BIASES}")(_gradients_of)


class _Row(NamedTuple):
    """What an instance knows of its row."""

    length: jax.Array
    words: tuple[jax.Array, jax.Array]
    head: jax.Array
    options: Options

    def reach(self, logits: jax.Array, first_key: Any) -> jax.Array:
        """Logits (Q, K) of a block, those of keys beyond the row's length out of reach."""
        frame = first_key + jnp.arange(logits.shape[1])
        return jnp.where((frame < self.length)[None, :], logits, NEVER)

    def kept(self, weights: jax.Array, first_query: Any, first_key: Any) -> jax.Array:
        """weights (Q, K) of a block after dropout, or what flows back through it."""
        rate, frames = self.options.rate, self.options.frames
        if rate == 0:
            return weights
        query = (first_query + jnp.arange(weights.shape[0])).astype(jnp.uint32)
        key = (first_key + jnp.arange(weights.shape[1])).astype(jnp.uint32)
        place = ((self.head * frames + query) * frames)[:, None] + key[None, :]
        return jnp.where(draws(*self.words, place) >= threshold(rate), weights * (1 / (1 - rate)), 0.0)


def _row(length_ref: Any, words_ref: Any, options: Options) -> _Row:
    return _Row(length_ref[...], (words_ref[0], words_ref[1]), pl.program_id(1).astype(jnp.uint32), options)


# The refs of each kernel: of bias and gate, where there are any, then of what it computes.
def _forward_kernel(q_ref, k_ref, v_ref, length_ref, words_ref, *refs, options):
    bias_ref, gate_ref, out_ref, total_ref = refs if options.biased else (None, None, *refs)
    first, query = pl.program_id(2) * TILE, q_ref[...]
    row = _row(length_ref, words_ref, options)
    gate = gate_ref[...][:, None] if options.biased else None

    def body(j: jax.Array, carry: tuple) -> tuple:
        out, highest, total = carry
        block = pl.ds(j * TILE, TILE)
        logits = _dot(query, k_ref[block, :].T)
        if options.biased:
            logits += gate * bias_ref[:, block]
        logits = row.reach(logits, j * TILE)
        new = jnp.maximum(highest, logits.max(1))
        weights, shrink = jnp.exp(logits - new[:, None]), jnp.exp(highest - new)
        value, kept = v_ref[block, :], row.kept(weights, first, j * TILE)
        out = out * shrink[:, None] + _dot(kept.astype(value.dtype), value)
        return out, new, total * shrink + weights.sum(1)

    start = jnp.zeros(query.shape, jnp.float32), jnp.full(TILE, NEVER, jnp.float32), jnp.zeros(TILE, jnp.float32)
    out, highest, total = jax.lax.fori_loop(0, k_ref.shape[0] // TILE, body, start)
    out_ref[...] = (out / total[:, None]).astype(out_ref.dtype)
    total_ref[...] = highest + jnp.log(total)


def _keys_kernel(q_ref, k_ref, v_ref, length_ref, words_ref, g_ref, total_ref, delta_ref, *refs, options):
    bias_ref, gate_ref, dk_ref, dv_ref = refs if options.biased else (None, None, *refs)
    first, key, value = pl.program_id(2) * TILE, k_ref[...], v_ref[...]
    row = _row(length_ref, words_ref, options)

    def body(i: jax.Array, carry: tuple) -> tuple:
        dkey, dvalue = carry
        block = pl.ds(i * TILE, TILE)
        query, gradient = q_ref[block, :], g_ref[block, :]
        logits = _dot(query, key.T)
        if options.biased:
            logits += gate_ref[block][:, None] * bias_ref[block, :]
        weights = jnp.exp(row.reach(logits, first) - total_ref[block][:, None])
        kept = row.kept(weights, i * TILE, first)
        dvalue += _dot(kept.astype(value.dtype).T, gradient)
        dkept = row.kept(_dot(gradient, value.T), i * TILE, first)
        dlogits = weights * (dkept - delta_ref[block][:, None])
        return dkey + _dot(dlogits.astype(query.dtype).T, query), dvalue

    zeros = jnp.zeros(key.shape, jnp.float32)
    dkey, dvalue = jax.lax.fori_loop(0, q_ref.shape[0] // TILE, body, (zeros, zeros))
    dk_ref[...], dv_ref[...] = dkey.astype(dk_ref.dtype), dvalue.astype(dv_ref.dtype)


def _queries_kernel(q_ref, k_ref, v_ref, length_ref, words_ref, g_ref, total_ref, delta_ref, *refs, options):
    bias_ref, gate_ref, dq_ref, *dbias_refs = refs if options.biased else (None, None, *refs)
    first, query, gradient = pl.program_id(2) * TILE, q_ref[...], g_ref[...]
    row = _row(length_ref, words_ref, options)
    total, delta = total_ref[...][:, None], delta_ref[...][:, None]
    gate = gate_ref[...][:, None] if options.biased else None

    def body(j: jax.Array, carry: tuple) -> tuple:
        dquery, *dgate = carry
        block = pl.ds(j * TILE, TILE)
        key, value = k_ref[block, :], v_ref[block, :]
        logits = _dot(query, key.T)
        if options.biased:
            bias = bias_ref[:, block]
            logits += gate * bias
        weights = jnp.exp(row.reach(logits, j * TILE) - total)
        dlogits = weights * (row.kept(_dot(gradient, value.T), first, j * TILE) - delta)
        if options.biased:
            dbias_refs[0][:, block] = (gate * dlogits).astype(dbias_refs[0].dtype)
            dgate = [dgate[0] + (dlogits * bias).sum(1)]
        return dquery + _dot(dlogits.astype(key.dtype), key), *dgate

    zeros = (jnp.zeros(query.shape, jnp.float32), *([jnp.zeros(TILE, jnp.float32)] if options.biased else []))
    dquery, *dgate = jax.lax.fori_loop(0, k_ref.shape[0] // TILE, body, zeros)
    dq_ref[...] = dquery.astype(dq_ref.dtype)
    if options.biased:
        dbias_refs[1][...] = dgate[0]


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.dot(a, b, preferred_element_type=jnp.float32)


# Which part of an array an instance (row, head, block) sees.
def _tile(channels: int) -> pl.BlockSpec:
    return pl.BlockSpec((None, TILE, None, channels), lambda b, h, i: (b, i, h, 0))


def _whole(frames: int, channels: int) -> pl.BlockSpec:
    return pl.BlockSpec((None, frames, None, channels), lambda b, h, i: (b, 0, h, 0))


def _from_queries(frames: int) -> pl.BlockSpec:
    return pl.BlockSpec((None, TILE, frames), lambda b, h, i: (h, i, 0))


def _row_from_queries(frames: int) -> pl.BlockSpec:
    return pl.BlockSpec((None, None, TILE, frames), lambda b, h, i: (b, h, i, 0))


def _to_keys(frames: int) -> pl.BlockSpec:
    return pl.BlockSpec((None, frames, TILE), lambda b, h, i: (h, 0, i))


def _all_stats(frames: int) -> pl.BlockSpec:
    return pl.BlockSpec((None, None, frames), lambda b, h, i: (b, h, 0))


_STATS = pl.BlockSpec((None, None, TILE), lambda b, h, i: (b, h, i))
_ROW = pl.BlockSpec((None,), lambda b, h, i: (b,))
_WORDS = pl.BlockSpec((None, 2), lambda b, h, i: (b, 0))


def _call(options: Options, kernel: Any, arrays: Sequence, specs: list, shapes: list, out_specs: list) -> tuple:
    rows, frames, heads, _ = arrays[0].shape
    return pl.pallas_call(
        partial(kernel, options=options),
        grid=(rows, heads, frames // TILE),
        in_specs=specs,
        out_specs=out_specs,
        out_shape=shapes,
        compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=STAGES),
        interpret=options.interpret,
    )(*arrays)
