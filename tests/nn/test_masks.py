import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_speech.errors import UsageError
from jepa_speech.nn.masks import MaskConfig, fill_masked, input_mask, most_visible, span_masks

CONFIG = MaskConfig()


masks_of = jax.jit(span_masks, static_argnums=(2, 3))


@pytest.fixture(scope="module")
def draw():
    return lambda seed, lengths, size=200, config=CONFIG: np.asarray(
        masks_of(jax.random.split(jax.random.key(seed), len(lengths)), jnp.asarray(lengths), size, config)
    )


def runs(mask):
    """Lengths of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return edges[1::2] - edges[::2]


def test_count_is_exact_and_padding_is_never_hidden(draw):
    fixed = MaskConfig(ratio=(0.5, 0.5))
    lengths = np.array([200, 150, 99, 40, 11, 3, 2, 1] * 8)
    masks = draw(0, lengths, config=fixed)
    assert not (masks & (np.arange(200) >= lengths[:, None])).any()
    expected = np.clip(np.round(0.5 * lengths), 1, np.maximum(lengths - 1, 1))
    np.testing.assert_array_equal(masks.sum(1), expected)


def test_ratio_is_uniform_between_its_bounds(draw):
    """The released code counts overlaps twice, so its coverage stays below the ratio (mean .416 for .525)."""
    share = draw(1, np.full(512, 200)).mean(1)
    assert share.min() >= 0.395
    assert share.max() <= 0.655
    assert abs(share.mean() - 0.525) < 0.01  # 3 sigma is 0.0096


def test_spans_have_the_asked_lengths(draw):
    lengths = np.concatenate([runs(mask) for mask in draw(2, np.full(64, 200))])
    assert (lengths >= 10).mean() > 0.85  # all but the one cut short in each row, and overlaps make longer ones
    single = draw(3, np.full(256, 200), config=MaskConfig(ratio=(0.05, 0.05), span=(10, 10)))
    assert {tuple(runs(mask)) for mask in single} == {(10,)}


def test_every_frame_can_be_hidden(draw):
    often = draw(4, np.full(512, 50), size=50).mean(0)
    assert often.min() > 0.02  # the first and the last too, though fewer spans reach them


def test_a_row_does_not_depend_on_its_batch():
    keys = jax.random.split(jax.random.key(5), 4)
    lengths = jnp.array([200, 120, 60, 20])
    whole = masks_of(keys, lengths, 200, CONFIG)
    alone = np.concatenate([masks_of(keys[i : i + 1], lengths[i : i + 1], 200, CONFIG) for i in range(4)])
    np.testing.assert_array_equal(whole, alone)


@pytest.mark.parametrize("bad", [{"ratio": (0.0, 0.5)}, {"ratio": (0.6, 0.5)}, {"span": (0, 5)}, {"span": (9, 5)}])
def test_nonsense_is_refused(bad):
    with pytest.raises(UsageError):
        MaskConfig(**bad)


@pytest.mark.parametrize(
    ("policy", "probability", "coverage"),
    [("spans", 0.65, 0.490), ("spans", 0.80, 0.569), ("bernoulli", 0.065, 0.48)],
)
def test_published_policies_cover_what_was_measured_of_them(policy, probability, coverage):
    """wav2vec 2.0's and HuBERT's p hide 49% and 57% of 749 frames; w2v-BERT's start probability 48%."""
    config = MaskConfig(policy=policy, probability=probability, span=(10, 10))
    lengths = jnp.full(200, 749)
    mask = np.asarray(masks_of(jax.random.split(jax.random.key(0), 200), lengths, 760, config))
    assert abs(mask[:, :749].mean() - coverage) < 0.015
    assert not mask[:, 748:].any()  # the last frame stays visible, and padding is never hidden


@pytest.mark.parametrize("policy", ["spans", "bernoulli"])
def test_every_length_has_a_hidden_and_a_visible_frame_and_padding_moves_nothing(policy):
    config = MaskConfig(policy=policy, probability=0.065, span=(10, 10))
    lengths = jnp.arange(2, 62)
    keys = jax.random.split(jax.random.key(1), len(lengths))
    mask, padded = (np.asarray(masks_of(keys, lengths, size, config)) for size in (61, 90))
    np.testing.assert_array_equal(mask, padded[:, :61])
    assert mask.any(1).all()
    assert all(not row[:n].all() for row, n in zip(mask, lengths, strict=True))
    # Every run of masked frames is a whole span, unless the end of the row cuts it.
    for row, n in zip(mask, np.asarray(lengths), strict=True):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row, [0]])))
        runs = edges[1::2] - edges[::2]
        assert all(run >= 10 or end >= n - 1 for run, end in zip(runs, edges[1::2], strict=True))


CENTRES = MaskConfig(policy="centres", ratio=(0.5, 0.5), probability=0.55, span=(5, 5))  # data2vec 2.0's


def test_centres_mask_exactly_half_of_every_length_and_padding_moves_nothing(draw):
    lengths = np.arange(1, 201)
    mask, padded = (draw(6, lengths, size=size, config=CENTRES) for size in (200, 230))
    np.testing.assert_array_equal(mask, padded[:, :200])
    assert not (mask & (np.arange(200) >= lengths[:, None])).any()
    np.testing.assert_array_equal(mask.sum(1), np.maximum(lengths // 2, 1))


def test_centres_mask_spans_around_frames_drawn_uniformly(draw):
    """Frames drawn one by one would form runs of two frames on average."""
    mask = draw(7, np.full(256, 200), config=CENTRES)
    assert 4 < np.concatenate([runs(row) for row in mask]).mean() < 8
    assert np.abs(mask.mean(0)[5:-5] - 0.5).max() < 0.15  # 0.5 within 5 sigma
    few = MaskConfig(policy="centres", ratio=(0.05, 0.05), probability=0.05, span=(5, 5))
    alone = [runs(row) for row in draw(8, np.full(64, 100), config=few)]  # one centre, and its span unless at an end
    assert {tuple(row) for row in alone if len(row) == 1} == {(5,)} and sum(len(row) == 1 for row in alone) > 50


@pytest.mark.parametrize("policy", ["centres", "exact", "spans", "bernoulli"])
@pytest.mark.parametrize("ratio", [(0.5, 0.5), (0.29, 0.7), (0.7, 0.7)])
def test_no_row_has_more_visible_frames_than_the_static_size(draw, policy, ratio):
    config = MaskConfig(policy=policy, ratio=ratio, span=(5, 5), probability=0.1)
    lengths = np.arange(1, 61)
    visible = (np.arange(60) < lengths[:, None]) & ~draw(9, lengths, size=60, config=config)
    assert visible.sum(1).max() <= most_visible(60, config) < 60
    if policy == "centres" and ratio[0] == ratio[1]:  # and no place is left over
        assert visible.sum(1).max() == most_visible(60, config)


def test_zero_fill():
    x, mask = jnp.ones((2, 6, 3)), jnp.arange(6) < jnp.array([[2], [0]])
    np.testing.assert_array_equal(fill_masked(x, mask, "zero", None, None), jnp.where(mask[..., None], 0, x))


def test_random_fill_belongs_to_the_row_and_touches_only_hidden_frames():
    x, mask = jnp.zeros((3, 20, 4)), jnp.arange(20) < jnp.array([[5], [10], [0]])
    keys = jax.random.split(jax.random.key(2), 3)
    filled = fill_masked(x, mask, "random", None, keys)
    np.testing.assert_array_equal(filled[1:2, :12], fill_masked(x[1:2, :12], mask[1:2, :12], "random", None, keys[1:2]))
    assert (np.asarray(filled != 0).any(-1) == np.asarray(mask)).all()
    assert abs(np.asarray(filled)[np.asarray(mask)].std() - 1) < 0.3


def test_noise_has_the_deviation_asked_for_and_owes_nothing_to_the_input():
    mask, keys = jnp.ones((2, 400), bool), jax.random.split(jax.random.key(4), 2)
    inputs = jnp.zeros((2, 400, 20)), jnp.full((2, 400, 20), 7.0)
    one, other = (fill_masked(x, mask, "noise", None, keys) for x in inputs)
    np.testing.assert_array_equal(one, other)
    assert abs(one.mean()) < 0.005 and abs(one.std() - 0.1) < 0.003  # 5 sigma and more, of 16,000 draws
    assert np.abs(one[0] - one[1]).max() > 0.1


def test_input_frames_are_masked_with_their_frame_and_those_after_the_last_with_it():
    mask = jnp.array([[False, True, True, False], [True, False, True, False]])  # of 4 frames, and of 3
    found = np.asarray(input_mask(mask, jnp.array([4, 3]), 19, 4))
    np.testing.assert_array_equal(found[0], np.repeat([False, True, True, False, False], 4)[:19])
    np.testing.assert_array_equal(found[1], np.repeat([True, False, True, True, True], 4)[:19])


def test_starts_at_a_probability_mask_the_share_of_the_closed_form():
    """1 - (1 - p)^L of the frames from L on, 1 - (1 - p)^(t + 1) of frame t before; a shorter span misses it."""
    keys, lengths = jax.random.split(jax.random.key(5), 800), jnp.full(800, 300)

    def share(span):
        config = MaskConfig(policy="bernoulli", probability=0.0394, span=(span, span))
        return np.asarray(masks_of(keys, lengths, 300, config)).mean(0)[:299]  # the last frame stays visible

    expected = 1 - (1 - 0.0394) ** np.minimum(np.arange(299) + 1, 10)
    assert expected[-1] == pytest.approx(1 - 0.99**40, abs=1e-3)  # the paper's, with starts every 10 ms
    found = share(10)
    assert np.abs(found - expected).max() < 0.08  # a frame has 800 draws: 5 sigma are 0.083
    assert abs((found - expected).mean()) < 0.013  # 4 sigma
    assert abs((share(9) - expected).mean()) > 0.02
