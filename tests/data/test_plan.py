import numpy as np
import pytest

from jepa_speech.data.plan import Plan, bucket_lengths
from jepa_speech.errors import UsageError
from jepa_speech.features.grid import HOP, frames

SAMPLES = np.random.default_rng(0).integers(400, 100_000, 57)  # up to 6.25 s, beyond the largest bucket
BUCKETS = (1.0, 2.5, 4.0)


def plan(**changes) -> Plan:
    return Plan(**{"samples": SAMPLES, "buckets": BUCKETS, "batch_seconds": 10.0, "seed": 3} | changes)


def epoch_of(p: Plan, epoch: int) -> list:
    return [p[epoch * p.batches_per_epoch + i] for i in range(p.batches_per_epoch)]


def same(a, b) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_each_record_comes_exactly_once_per_epoch():
    p = plan()
    for epoch in (0, 1, 5):
        items = epoch_of(p, epoch)
        real = np.concatenate([item.records[item.weight > 0] for item in items])
        assert np.array_equal(np.sort(real), np.arange(len(SAMPLES)))
        assert {item.epoch for item in items} == {epoch}


def test_batch_i_depends_on_seed_and_i_alone():
    wandering, fresh = plan(), plan()
    for i in (70, 3, 10**7, 0, 3, 71):
        assert same(wandering[i], plan()[i])
    assert same(wandering[10**7], fresh[10**7])
    assert not all(same(plan()[i], plan(seed=4)[i]) for i in range(5))


def test_epochs_differ_in_order_and_crops():
    p = plan()
    first, second = epoch_of(p, 0), epoch_of(p, 1)
    assert any(not np.array_equal(a.records, b.records) for a, b in zip(first, second, strict=True))
    starts = [{int(r): int(s) for i in e for r, s in zip(i.records, i.starts, strict=True)} for e in (first, second)]
    assert starts[0] != starts[1]


def test_crops_stay_inside_and_on_the_frame_grid():
    p = plan()
    lengths = bucket_lengths(BUCKETS)
    for item in epoch_of(p, 2):
        for records, starts in ((item.records, item.starts), (item.mix, item.mix_starts)):
            assert (starts % HOP == 0).all()
            assert (starts + np.minimum(SAMPLES[records], item.bucket_samples) <= SAMPLES[records]).all()
        fits = lengths[np.searchsorted(lengths, SAMPLES[item.records]).clip(max=2)]
        assert (fits == item.bucket_samples).all()


def test_bucket_lengths_give_whole_frames():
    assert [frames(int(s)) for s in bucket_lengths((4.0, 0.5))] == [25, 200]
    assert frames(int(bucket_lengths((4.0,))[0]) - 1) == 199


def test_the_context_is_another_crop_where_there_is_one():
    p = plan()
    for item in epoch_of(p, 1):
        spare = (SAMPLES[item.records] - item.bucket_samples) // HOP
        assert (item.context_starts % HOP == 0).all() and (item.context_starts >= 0).all()
        assert (item.context_starts[spare > 0] <= HOP * spare[spare > 0]).all()
        np.testing.assert_array_equal(item.context_starts != item.starts, spare > 0)
    assert any((item.context_starts != item.starts).any() for item in epoch_of(p, 1))


def test_starts_of_crops_stay_what_they_were():
    """Runs that were begun before go on with the same data: written down when contexts came in."""
    item = plan()[3]
    assert [x.tolist() for x in (item.records, item.starts)] == [[16, 33], [0, 320]]
    assert [x.tolist() for x in (item.mix, item.mix_starts)] == [[33, 9], [20160, 7040]]


def test_mix_is_never_the_record_itself():
    items = epoch_of(plan(), 0)
    assert all((item.mix != item.records).all() and (item.mix >= 0).all() for item in items)
    alone = Plan(np.array([800]), (1.0,), 1.0, seed=0)
    assert alone[0].mix.tolist() == [-1]


def test_more_devices_add_filler_rows_and_change_nothing_else():
    one, eight = plan(), plan(rows_multiple=8)
    for i in (0, 5, 40):
        real = eight[i].weight > 0
        assert len(eight[i].records) % 8 == 0
        assert np.array_equal(eight[i].records[real], one[i].records[one[i].weight > 0])
        assert (eight[i].records[~real] == eight[i].records[0]).all()


def test_padding_waste_counts_padding_and_filler():
    p = plan()
    used = sum(np.minimum(SAMPLES[i.records], i.bucket_samples)[i.weight > 0].sum() for i in epoch_of(p, 0))
    made = sum(len(i.records) * i.bucket_samples for i in epoch_of(p, 0))
    assert p.padding_waste() == pytest.approx(1 - used / made)


def test_an_empty_store_is_refused():
    with pytest.raises(UsageError, match="no records"):
        plan(samples=np.array([], int))
