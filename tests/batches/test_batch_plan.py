import pickle
import tracemalloc

import numpy as np
import pytest

from jepa_speech.batches.batch_plan import DataConfig, Plan, bucket_lengths
from jepa_speech.errors import UsageError
from jepa_speech.features.grid import HOP, frames
from jepa_speech.ingest.lengths import Lengths, in_words

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
    with pytest.raises(UsageError, match="no recordings"):
        plan(samples=np.array([], int))


def times(p: Plan, epoch: int) -> np.ndarray:
    """Returns how often an epoch has each record."""
    items = epoch_of(p, epoch)
    return np.bincount(np.concatenate([i.records[i.weight > 0] for i in items]), minlength=len(p.samples))


def test_stores_of_weight_one_are_today_s_plan():
    for shares in ([(57, 1.0)], [(20, 1.0), (37, 1.0)]):
        one = plan(shares=shares)
        assert all(same(one[i], plan()[i]) for i in (0, 1, 50, 10**7))


def test_a_weight_is_how_often_a_record_stands_in_an_epoch():
    """Each epoch has ⌊w⌋ or ⌊w⌋ + 1, E epochs have E·w ± 1, and epochs are equally long."""
    p = plan(samples=np.repeat(SAMPLES, 4), shares=[(100, 2.25), (128, 1.0)])
    counts = np.array([times(p, epoch) for epoch in range(12)])  # (epochs, N)
    assert set(counts[:, :100].ravel()) == {2, 3} and (counts[:, 100:] == 1).all()
    assert len(set(counts.sum(1))) == 1
    for epochs in (1, 4, 7, 12):
        total = counts[:epochs, :100].sum(0)
        # The fraction is rounded to whole rows in each of three buckets of at least 20 records.
        assert (abs(total - 2.25 * epochs) < 1 + epochs * 0.5 / 20).all()
    assert not np.array_equal(counts[0], counts[1])


def test_a_small_weight_leaves_nothing_out_for_good():
    p = plan(shares=[(7, 0.1), (50, 1.0)])
    counts = np.array([times(p, epoch) for epoch in range(10)])[:, :7]
    assert (counts.max(0) == 1).all() and (counts.sum(1) < 4).all()


def test_further_rows_of_a_record_are_other_crops_and_can_be_told_apart():
    p = plan(samples=np.full(3, 80_000), buckets=(1.0,), shares=[(3, 4.0)])
    items = epoch_of(p, 0)
    entries = [(int(r), int(c)) for i in items for r, c, w in zip(i.records, i.copies, i.weight, strict=True) if w]
    assert sorted(entries) == [(record, copy) for record in range(3) for copy in range(4)]
    assert len({int(s) for i in items for s in i.starts}) > 6


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_is_above_0(weight):
    with pytest.raises(UsageError, match="weight"):
        plan(shares=[(50, 1.0), (7, weight)])


def test_windows_give_a_long_record_one_crop_in_each_of_its_parts():
    samples = np.array([16_000, 64_000 * 5 + 7, 30_000, 64_000])
    p = plan(samples=samples, windows=True)
    longest = int(p.bucket_samples[-1])
    assert times(p, 0).tolist() == [1, -(-int(samples[1]) // longest), 1, 1]
    for epoch in (0, 3):
        rows = [
            (int(copy), int(start))
            for item in epoch_of(p, epoch)
            for record, copy, start, w in zip(item.records, item.copies, item.starts, item.weight, strict=True)
            if record == 1 and w
        ]
        spare = int(samples[1]) - longest
        for copy, start in rows:
            assert copy * spare / len(rows) - HOP <= start <= (copy + 1) * spare / len(rows)
    twice = plan(samples=samples, windows=True, shares=[(4, 2.0)])
    assert times(twice, 0).tolist() == [2 * n for n in times(p, 0)]
    assert plan(windows=False).batches_per_epoch <= plan(windows=True).batches_per_epoch


def test_a_pickled_plan_is_small_and_the_same(tmp_path):
    """For worker processes, a memory map is opened again instead of copied, and orders are left out."""
    np.save(tmp_path / "samples.npy", np.tile(SAMPLES, 1000))
    p = plan(samples=np.load(tmp_path / "samples.npy", mmap_mode="r"), shares=[(7000, 0.5), (50_000, 1.0)])
    wanted = p[5]
    data = pickle.dumps(p)
    assert len(data) < 1000
    assert same(pickle.loads(data)[5], wanted)
    part = np.load(tmp_path / "samples.npy", mmap_mode="r")[57:]  # a view of a map is not its file
    assert np.array_equal(pickle.loads(pickle.dumps(plan(samples=part))).samples, part)


def test_ten_million_steps_on_costs_one_epoch_s_order():
    """Restoring is O(1) in the step: only the wanted epoch is computed."""
    p = plan()
    p[10**7]
    assert list(p._epochs) == [10**7 // p.batches_per_epoch]


OF_LENGTH = (Lengths(30_000), Lengths(0, 50_000), Lengths(20_000, 60_000))


@pytest.mark.parametrize("lengths", OF_LENGTH)
@pytest.mark.parametrize("more", [{}, {"windows": True}, {"shares": [(50, 2.25), (7, 1.0)]}])
def test_recordings_of_other_lengths_are_in_no_row_and_all_others_are(lengths, more, tmp_path):
    p = plan(lengths=lengths, **more)
    used = np.flatnonzero(lengths.hold(SAMPLES))
    assert 0 < len(used) < len(SAMPLES) and np.array_equal(p.used_samples, SAMPLES[used])
    for epoch in (0, 3):
        items = epoch_of(p, epoch)
        assert set(np.concatenate([item.records[item.weight > 0] for item in items]).tolist()) == set(used.tolist())
        partners = np.concatenate([item.mix for item in items])
        assert set(partners.tolist()) <= set(used.tolist())
        assert not any((item.mix == item.records).any() for item in items)
        for item in items:
            ends = item.mix_starts + np.minimum(SAMPLES[item.mix], item.bucket_samples)
            assert (ends <= SAMPLES[item.mix]).all()
    assert same(p[10**6 + 7], plan(lengths=lengths, **more)[10**6 + 7])
    assert same(pickle.loads(pickle.dumps(p))[5], p[5]) and same(p.with_buckets(BUCKETS)[5], p[5])


@pytest.mark.parametrize(
    "lengths", [Lengths(400), Lengths(0, 100_000), Lengths(int(SAMPLES.min()), int(SAMPLES.max()))]
)
def test_lengths_that_leave_nothing_out_change_no_batch(lengths):
    """A run from before these keys resumes bit-identically."""
    for more in ({}, {"windows": True}, {"shares": [(50, 2.25), (7, 1.0)]}):
        assert all(same(plan(lengths=lengths, **more)[i], plan(**more)[i]) for i in range(40))


@pytest.mark.parametrize("lengths", [Lengths(), Lengths(401)])
def test_a_batch_copies_nothing_of_the_size_of_the_store(lengths):
    """Also if recordings are left out: those that remain are searched for the partner of each row."""
    p = plan(samples=np.tile(np.append(400, SAMPLES), 5000), lengths=lengths)
    p[0]  # the order of the epoch, which is kept
    tracemalloc.start()
    p[1]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < len(p.samples) / 4  # bytes


def test_a_plan_of_nothing_names_the_keys():
    with pytest.raises(
        UsageError, match=r"none of 57 recordings can be used: each must have at least 100 s \(data.min_seconds"
    ):
        plan(lengths=Lengths(1_600_000))
    alone = plan(lengths=Lengths(int(SAMPLES.max())))
    assert {int(r) for r in alone[0].records} == {int(SAMPLES.argmax())} and (alone[0].mix == -1).all()


@pytest.mark.parametrize(
    "keys", [{"min_seconds": -1.0}, {"max_seconds": -0.5}, {"min_seconds": 2.0, "max_seconds": 1.0}]
)
def test_lengths_that_cannot_be(keys):
    with pytest.raises(UsageError, match=r"data\.min_seconds"):
        DataConfig(store="x", **keys)


def test_what_is_left_out_is_counted_and_named():
    found = (
        DataConfig(store="x", min_seconds=1.0, max_seconds=5.0).lengths(400).left_out(SAMPLES, "recording {}".format)
    )
    short, long = np.flatnonzero(SAMPLES < 16_000), np.flatnonzero(SAMPLES > 80_000)
    assert [one["recordings"] for one in found] == [len(short), len(long)]
    assert [one["first"] for one in found] == [f"recording {short[0]}", f"recording {long[0]}"]
    assert found[0]["seconds"] == pytest.approx(SAMPLES[short].sum() / 16_000, abs=1e-3)
    assert "(data.max_seconds); the first: recording" in in_words(found[1]) and "shorter than 1 s" in in_words(found[0])
    assert DataConfig(store="x", min_seconds=1.0).lengths(20_000).shortest == 20_000  # what is needed, at least
