import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_speech.nn.module import Pure
from jepa_speech.nn.pase_heads import GAP, NEARBY, SPC_FRAMES, Upsampling, WaveDecoder, neighbours, spc_pairs


def test_sequences_lie_where_they_should():
    """Frames that hold their own number show which were taken."""
    lengths = jnp.tile(jnp.array([SPC_FRAMES, 60, 100]), 200)
    z = jnp.tile(jnp.arange(100.0)[None, :, None], (600, 1, 1))
    future, past = (np.asarray(x) for x in jax.jit(spc_pairs)(jax.random.split(jax.random.key(0), 600), z, lengths))
    assert future.shape == (600, 1 + NEARBY)
    anchor = future[:, 0]
    np.testing.assert_array_equal(anchor, past[:, 0])
    for sequence in (future[:, 1:], past[:, 1:]):
        assert (np.diff(sequence, axis=1) == 1).all()
    assert (future[:, 1] >= anchor + GAP).all() and (future[:, -1] < lengths).all()
    assert (past[:, -1] <= anchor - GAP).all() and (past[:, 1] >= 0).all()
    assert future[:, -1].max() == 99 and past[:, 1].min() == 0 and len(set(anchor[2::3].tolist())) > 40


def test_neighbours_are_zero_beyond_the_ends():
    x = jnp.arange(1.0, 5.0).reshape(1, 4, 1)
    assert neighbours(x, 3)[0].tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 0]]
    assert neighbours(x, 1).tolist() == x.tolist()


@pytest.mark.parametrize("stride", [4, 10])
def test_upsampling_is_a_transposed_convolution(stride):
    layer = Pure(lambda rngs: Upsampling(3, 2, stride, jnp.dtype("float32"), rngs))
    params = layer.init(jax.random.PRNGKey(0))
    x = np.random.default_rng(0).normal(size=(2, 11, 3)).astype(np.float32)
    whole = np.zeros((2, 10 * stride + 30, 2))
    for t in range(11):  # each frame adds its share, 30 steps long; shares overlap
        whole[:, t * stride : t * stride + 30] += np.einsum("bd,kdc->bkc", x[:, t], params["kernel"])
    first = (30 - stride) // 2
    np.testing.assert_allclose(layer.apply(params, x), whole[:, first : first + 11 * stride], atol=1e-5)


def test_the_decoder_gives_160_samples_a_frame():
    decoder = Pure(lambda rngs: WaveDecoder(3, (4, 4, 4), jnp.dtype("float32"), rngs))
    params = jax.eval_shape(decoder.init, jax.random.PRNGKey(0))
    assert jax.eval_shape(decoder.apply, params, jnp.zeros((1, 20, 3))).shape == (1, 3200)
