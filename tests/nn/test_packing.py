"""Blocks that read only visible frames give what they give in the whole row with masked keys removed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_speech.features.grid import HOP, WINDOW
from jepa_speech.nn import encoder as own
from jepa_speech.nn import packing, wav2vec2
from jepa_speech.nn.alibi import Alibi, slopes
from jepa_speech.nn.encoder import Encoder, EncoderConfig
from jepa_speech.nn.module import Pure
from jepa_speech.nn.packing import Packing, pack
from jepa_speech.nn.wav2vec2 import Wav2Vec2Config, Wav2Vec2Encoder
from jepa_speech.training.compiled import product_flops

FRAMES, WIDTH, HIDDEN, BLOCKS = 24, 16, 32, 1
LENGTHS = jnp.array([FRAMES, 15]) * HOP + WINDOW - HOP  # the second row is padded
WAVE = jax.random.normal(jax.random.key(0), (2, FRAMES * HOP + WINDOW - HOP))
INSIDE = np.arange(FRAMES) < np.array([[FRAMES], [15]])
MASK = jnp.asarray((np.random.default_rng(0).random((2, FRAMES)) < 0.5) & INSIDE)
VISIBLE = INSIDE & ~np.asarray(MASK)
SIZES = {"width": WIDTH, "blocks": BLOCKS, "heads": 2, "hidden": HIDDEN, "frontend": "logmel"}


@pytest.fixture(scope="module", params=["transformer", "wav2vec2"])
def system(request):
    """The module of the encoder, what makes it, and its parameters."""
    if request.param == "transformer":
        config = EncoderConfig(name="transformer", dropout=0.0, kernel=5, **SIZES)
        pure, module = Pure(lambda rngs: Encoder(config, "zero", rngs)), own
    else:
        small = {"positions": "stacked", "position_kernel": 9, "position_groups": 2, "position_depth": 3}
        pure = Pure(lambda rngs: Wav2Vec2Encoder(Wav2Vec2Config(alibi=True, **SIZES, **small), "zero", rngs))
        module = wav2vec2
    return module, pure, jax.jit(pure.init)(jax.random.key(1))


def encoded(pure, params, *rest, packed=None):
    return jax.jit(lambda *given: pure.apply(*given, packed=packed))(params, WAVE, LENGTHS, *rest)


def test_gathering_and_scattering_leave_visible_frames_where_they_are():
    x = jax.random.normal(jax.random.key(2), (2, FRAMES, 3))
    for size in (int(VISIBLE.sum(1).max()), FRAMES):
        packed = pack(jnp.asarray(INSIDE), MASK, size)
        np.testing.assert_array_equal(packed.scatter(packed.gather(x)), np.where(VISIBLE[..., None], x, 0))
        for row in range(2):  # in order, and no others are read
            np.testing.assert_array_equal(packed.positions[row][packed.inside[row]], np.flatnonzero(VISIBLE[row]))
    np.testing.assert_array_equal(pack(jnp.asarray(INSIDE), MASK, None).gather(x), x)


def removed(inside, mask, size):
    """In place of `pack`: frames stay, and masked ones are no keys."""
    return Packing(None, jnp.arange(inside.shape[1])[None], inside & ~mask)


def neighbours(inside, mask, size):
    """In place of `pack`: visible frames are taken for neighbours."""
    return packing.pack(inside, mask, size)._replace(positions=jnp.arange(size)[None])


def test_visible_frames_alone_give_what_the_whole_row_does_without_masked_keys(system, monkeypatch):
    module, pure, params = system
    size = int(VISIBLE.sum(1).max())
    alone = encoded(pure, params, MASK, packed=size)
    monkeypatch.setattr(module, "pack", removed)
    whole = encoded(pure, params, MASK, packed=size)
    for one, two in zip([*alone.layers, *alone.ff], [*whole.layers, *whole.ff], strict=True):
        np.testing.assert_allclose(np.asarray(one)[VISIBLE], np.asarray(two)[VISIBLE], atol=1e-5)
        assert not np.asarray(one)[~VISIBLE].any()
    gather = Packing.gather
    monkeypatch.setattr(module, "pack", neighbours)
    monkeypatch.setattr(Packing, "gather", lambda self, x: gather(packing.pack(jnp.asarray(INSIDE), MASK, size), x))
    moved = encoded(pure, params, MASK, packed=size)
    assert np.abs(np.asarray(moved.z - whole.z))[VISIBLE].max() > 1e-4


def test_with_nothing_masked_it_is_the_whole_input(system):
    _, pure, params = system
    packed, whole = encoded(pure, params, MASK & False, packed=FRAMES), encoded(pure, params)
    for one, two in zip(packed.layers, whole.layers, strict=True):
        np.testing.assert_allclose(np.asarray(one)[INSIDE], np.asarray(two)[INSIDE], atol=1e-5)


def test_several_masks_of_a_wave_are_those_one_by_one(system):
    _, pure, params = system
    masks = jnp.stack([MASK, MASK[:, ::-1] & INSIDE], 1)  # (B, M, T)
    both = encoded(pure, params, masks.reshape(4, FRAMES), packed=FRAMES - 1)
    for m in range(2):
        one = encoded(pure, params, masks[:, m], packed=FRAMES - 1)
        for name in ("z", "features", "energy", "frame_lengths"):
            np.testing.assert_allclose(getattr(both, name)[m::2], getattr(one, name), atol=1e-5, err_msg=name)


def test_the_work_is_that_of_the_places(system):
    """What the places cost is counted from the jaxpr, and is what the blocks have to do."""
    _, pure, params = system

    def flops(size: int) -> int:
        traced = jax.make_jaxpr(lambda p: pure.apply(p, WAVE, LENGTHS, MASK, packed=size).z)(params)
        return product_flops(traced.jaxpr)

    def block(size: int) -> int:
        return 2 * 2 * size * (4 * WIDTH * WIDTH + 2 * WIDTH * HIDDEN + 2 * size * WIDTH)  # of two rows

    assert flops(20) - flops(10) == BLOCKS * (block(20) - block(10))


def test_alibi():
    assert slopes(8) == [2.0**-n for n in range(1, 9)]
    assert slopes(12) == [2.0**-n for n in range(1, 9)] + [2.0**-n for n in (0.5, 1.5, 2.5, 3.5)]
    alibi = Pure(lambda rngs: Alibi(4))
    params, positions = {"scale": jnp.array([1.0, 2.0, -3.0, 0.0])}, jnp.array([[0, 3, 4], [7, 1, 1]])
    found = np.asarray(alibi.apply(params, positions))
    distance = np.abs(np.asarray(positions)[:, :, None] - np.asarray(positions)[:, None])
    for head, rate in enumerate((1 / 4, 2 / 16, 0, 0)):  # a scale below 0 counts as 0
        np.testing.assert_allclose(found[:, head], -rate * distance)
