import json
import pickle
import shutil

import numpy as np
import pytest
from support.clustered_audio import babble_store
from support.random_anchors import make_gmm

from jepa_speech.batches.batch_plan import Plan
from jepa_speech.batches.joined_labels import stored_labels
from jepa_speech.batches.pipeline import batches
from jepa_speech.batches.weighted_stores import Stores, open_stores, shares, stored_means
from jepa_speech.errors import UsageError, UserError
from jepa_speech.labelling.anchoring import label
from jepa_speech.path_lists import weighted_paths
from jepa_speech.store.checksums import sealed
from jepa_speech.store.feature_means import save_means
from jepa_speech.store.labels import Labels
from jepa_speech.store.store import Store


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> list[Store]:
    folder = tmp_path_factory.mktemp("pair")
    return [babble_store(folder / "a", [0.3, 0.5, 0.4]), babble_store(folder / "b", [0.6, 0.2], seed=10)]


def mixture(pair: list[Store], *weights: float) -> str:
    return ",".join(f"{store.path}:{weight}" for store, weight in zip(pair, weights, strict=True))


def test_what_the_config_key_says():
    assert weighted_paths("stores/a", "data.store") == [("stores/a", 1.0)]
    assert weighted_paths("/odd:name/a", "data.store") == [("/odd:name/a", 1.0)]
    assert weighted_paths("a:2", "data.store") == [("a", 2.0)]
    assert weighted_paths("a:1, b/c.d:0.5", "data.store") == [("a", 1.0), ("b/c.d", 0.5)]


@pytest.mark.parametrize("text", ["a,b", "a:1,b", "a:0,b:1", "a:1,b:-2", "a:1,:2", "a:nan,b:1", "a:1,"])
def test_a_mixture_without_good_weights_is_refused(text):
    with pytest.raises(UsageError, match="PATH:WEIGHT"):
        weighted_paths(text, "data.store")


def test_one_store_of_weight_one_is_that_store(pair):
    for text in (str(pair[0].path), f"{pair[0].path}:1"):
        assert isinstance(open_stores(text), Store)
    assert shares(pair[0]) == [(3, 1.0)]


def test_records_run_on_from_store_to_store(pair):
    stores = pickle.loads(pickle.dumps(open_stores(mixture(pair, 1, 0.5))))
    assert len(stores) == 5 and stores.shares == [(3, 1.0), (2, 0.5)]
    assert stores.hours == pytest.approx(pair[0].hours + pair[1].hours)
    for i, (store, number) in enumerate([(pair[0], 0), (pair[0], 1), (pair[0], 2), (pair[1], 0), (pair[1], 1)]):
        assert stores.samples[i] == store.samples[number]
        np.testing.assert_array_equal(stores.read(i, 320, 1000), store.read(number, 320, 1000))
        assert stores.level[np.array([i])].tolist() == [store.level[number]]


def test_other_stores_or_weights_are_another_fingerprint(pair):
    found = {open_stores(mixture(pair, *weights)).fingerprint for weights in ((1, 1), (1, 0.5), (2, 1))}
    found |= {open_stores(mixture(pair[::-1], 1, 1)).fingerprint, pair[0].fingerprint}
    assert len(found) == 5
    again = open_stores(mixture(pair, 1, 0.5))
    assert again.fingerprint == open_stores(mixture(pair, 1, 0.5)).fingerprint


def test_the_same_recordings_twice_are_refused(pair, tmp_path):
    shutil.copytree(pair[0].path, tmp_path / "copy")
    with pytest.raises(UsageError, match=r"copy and .*store are the same"):
        Stores([(pair[0].path, 1.0), (tmp_path / "copy", 1.0)])


def test_batches_of_a_mixture_hold_each_store_s_audio_levels_and_means(pair):
    for number, store in enumerate(pair):
        save_means(store, "logmel", np.full((len(store), 80), number))
    stores = open_stores(mixture(pair, 1, 2))
    plan = Plan(stores.samples, (0.4,), 1.2, 0, shares=shares(stores))
    seen = []
    means = stored_means(stores, "logmel")
    for batch in batches(stores, plan, frozenset({"mix", "anchor_mean"}), 0, plan.batches_per_epoch, means=means):
        for row in np.flatnonzero(batch["weight"]):
            record = int(batch["record_id"][row]) % 5
            store, number = (pair[0], record) if record < 3 else (pair[1], record - 3)
            audio = batch["audio"][row, : batch["lengths"][row]]
            assert audio.tobytes() in store.read(number).tobytes()
            assert batch["level"][row] == store.level[number]
            assert batch["anchor_mean"][row].tolist() == [record >= 3] * 80
            seen.append(record)
    assert sorted(seen) == [0, 1, 2, 3, 3, 4, 4]


def test_a_store_that_lacks_labels_is_named(pair):
    with pytest.raises(UserError, match="no labels of anchor"):
        stored_labels(open_stores(mixture(pair, 1, 1)), "0" * 64)


def test_labels_are_looked_up_in_their_store(pair):
    anchor = make_gmm()
    for store in pair:
        label(store, anchor, 3)
    stores = open_stores(mixture(pair, 1, 0.5))
    joined = pickle.loads(pickle.dumps(stored_labels(stores, anchor.fingerprint)))
    assert joined.top_k == 3 and joined.components == 16
    for i, (store, number) in enumerate([(pair[0], 2), (pair[1], 0), (pair[1], 1)], start=2):
        for found, wanted in zip(joined.slice(i, 2, 5), Labels(store, anchor).slice(number, 2, 5), strict=True):
            np.testing.assert_array_equal(found, wanted)
    label(pair[1], anchor, 2)
    with pytest.raises(UsageError, match="--top-k"):
        stored_labels(stores, anchor.fingerprint)


def test_labels_of_different_numbers_of_components_are_not_joined(pair):
    anchor = make_gmm(components=8)
    for store in pair:
        label(store, anchor, 3)
    path = Labels(pair[1], anchor).path / "meta.json"
    meta = json.loads(path.read_text())
    path.write_text(json.dumps(sealed({key: meta[key] for key in meta if key != "crc"} | {"components": 9})))
    with pytest.raises(UserError, match=r"labels of 9 components, but .* has 8; remove the wrong"):
        stored_labels(open_stores(mixture(pair, 1, 1)), anchor.fingerprint)
