"""PASE's workers: small networks that each solve one task from the embedding."""

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.nn.linear import Linear
from jepa_speech.nn.pase import PReLU

KERNEL, STRIDES = 30, (4, 4, 10)  # of the decoder's transposed convolutions: together 160 samples a frame
DECODER_HIDDEN = 64
NEARBY, GAP = 5, 16  # frames of a sequence that SPC looks at, and how far from the anchor it is at least
SPC_FRAMES = 2 * (GAP + NEARBY) + 1  # the shortest row that has a future and a past


class Mlp(nnx.Module):
    """One hidden layer with PReLU: (..., width) -> (..., outputs)."""

    def __init__(self, width: int, hidden: int, outputs: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.hidden = Linear(width, hidden, dtype=dtype, rngs=rngs)
        self.activation = PReLU(hidden)
        self.out = Linear(hidden, outputs, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.out(self.activation(self.hidden(x)))


class Upsampling(nnx.Module):
    """A transposed convolution with KERNEL taps: (B, T, width) -> (B, stride * T, maps), each frame's share around it.

    Written as a plain convolution that gives `stride` steps at once: on CPU several times as fast, and equal.
    """

    def __init__(self, width: int, maps: int, stride: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.stride, self.dtype = stride, dtype
        scale = (width * KERNEL / stride) ** -0.5
        self.kernel = nnx.Param(scale * jax.random.normal(rngs.params(), (KERNEL, width, maps)))
        self.bias = nnx.Param(jnp.zeros(maps))

    def __call__(self, x: jax.Array) -> jax.Array:
        cropped = (KERNEL - self.stride) // 2  # steps of the first frame's share that would lie before the start
        reach = -(-cropped // self.stride)
        front = reach * self.stride - cropped
        back = -(front + KERNEL) % self.stride
        taps = jnp.pad(self.kernel[...].astype(self.dtype), ((front, back), (0, 0), (0, 0)))
        taps = taps.reshape(-1, self.stride, *taps.shape[1:])[::-1].swapaxes(1, 2)  # (taps, width, stride, maps)
        count, width, _, maps = taps.shape
        y = jax.lax.conv_general_dilated(
            *(x.astype(self.dtype), taps.reshape(count, width, -1)),
            window_strides=(1,),
            padding=[(count - 1 - reach, reach)],
            dimension_numbers=("NWC", "WIO", "NWC"),
        )
        return y.reshape(len(x), -1, maps) + self.bias[...].astype(self.dtype)


class WaveDecoder(nnx.Module):
    """From frames back to samples: three transposed convolutions with PReLU, then an MLP for each sample."""

    def __init__(self, width: int, maps: tuple[int, ...], dtype: jnp.dtype, rngs: nnx.Rngs):
        self.upsampling = nnx.List(
            Upsampling(before, after, stride, dtype, rngs)
            for before, after, stride in zip((width, *maps[:-1]), maps, STRIDES, strict=True)
        )
        self.activations = nnx.List(PReLU(after, 0.0) for after in maps)
        self.mlp = Mlp(maps[-1], DECODER_HIDDEN, 1, dtype, rngs)

    def __call__(self, z: jax.Array) -> jax.Array:
        """(B, T, D), zero behind the valid frames -> (B, 160 T)."""
        for layer, activation in zip(self.upsampling, self.activations, strict=True):
            z = activation(layer(z))
        return self.mlp(z)[..., 0]


def spc_pairs(keys: jax.Array, z: jax.Array, frame_lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sequence prediction: an anchor frame beside five later and beside five earlier ones, (B, 6 D) each.

    By the row's key: the anchor t far enough from both ends, then the later frames anywhere from t + 16, the
    earlier ones anywhere up to t - 16. Rows shorter than SPC_FRAMES give arbitrary frames.
    """
    margin = GAP + NEARBY

    def places(key: jax.Array, frames: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        at, later, earlier = jax.random.split(key, 3)
        anchor = jax.random.randint(at, (), margin, jnp.maximum(frames - margin, margin + 1))
        future = jax.random.randint(later, (), anchor + GAP, jnp.maximum(frames - NEARBY, anchor + GAP) + 1)
        past = jax.random.randint(earlier, (), 0, anchor - margin + 1)
        return anchor, future, past

    anchor, future, past = jax.vmap(places)(keys, frame_lengths)

    def pair(first: jax.Array) -> jax.Array:
        index = jnp.concatenate([anchor[:, None], first[:, None] + jnp.arange(NEARBY)], 1)  # (B, 6)
        index = jnp.minimum(index, z.shape[1] - 1)
        return jnp.take_along_axis(z, index[..., None], axis=1).reshape(len(z), -1)

    return pair(future), pair(past)


def neighbours(x: jax.Array, count: int) -> jax.Array:
    """Each frame with those around it, `count` (odd) in all, zeros beyond the ends: (B, T, F) -> (B, T, count * F)."""
    reach = count // 2
    padded = jnp.pad(x, ((0, 0), (reach, reach), (0, 0)))
    return jnp.concatenate([padded[:, i : i + x.shape[1]] for i in range(count)], -1)
