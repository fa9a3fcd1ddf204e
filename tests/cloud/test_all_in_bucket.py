"""From recordings to a probed and exported encoder, all in a bucket, with the results of local folders."""

import json

import jax
import numpy as np
import pytest
from support.audio_files import write_tones
from support.bucket_servers import BUCKET, names, upload
from support.labelled_corpus import write_spoken

import jepa_speech
from jepa_speech.probing import phones
from jepa_speech.probing.linear import Recipe
from jepa_speech.store.labels import Labels
from jepa_speech.store.store import Store
from jepa_speech.training.run_in_bucket import RunInBucket

CHANGES = {"data.batch_seconds": 2.0, "anchor.components": 4, "train.steps": 2, "train.checkpoint_every": 1}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("all")
    write_tones(folder / "audio", 12, seconds=0.5)
    write_spoken(folder / "labelled")
    return folder


def prepared(inputs, place: str):
    """Makes a store, an anchor and labels in `place`; returns the hash of the store, the anchor and the store."""
    store, anchor = f"{place}/store", f"{place}/anchor.npz"
    made = jepa_speech.prepare(f"{inputs}/audio", store, workers=1, shard_mb=0.04)
    fitted = jepa_speech.fit_gmm(store, anchor, components=4, iterations=1, features="mfcc")
    jepa_speech.label(store, anchor, top_k=4)
    return made["fingerprint"], fitted["fingerprint"]


def trained(place: str):
    paths = {"data.store": f"{place}/store", "anchor.path": f"{place}/anchor.npz"}
    return jepa_speech.train("tiny", f"{place}/run", overrides=CHANGES | paths)


def used(inputs, place: str):
    """Probes, analyses and exports the run in `place`; returns all figures."""
    run = f"{place}/run"
    probed = jepa_speech.probe(run, f"{inputs}/labelled", "phones", out=f"{place}/results", name="ours")
    looked = jepa_speech.analyze(run, f"{place}/store", out=f"{place}/analysis", utterances=2)
    exported = jepa_speech.export_stablehlo(run, f"{place}/exported")
    assert (probed.pop("checkpoint"), looked.pop("report")) == (run, f"{place}/analysis/report.html")
    looked.pop("tables")
    return probed, looked, exported["parameters"]


@pytest.fixture(scope="module")
def local(inputs, tmp_path_factory):
    """The same in local folders: place, hashes, and figures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phones, "RECIPE", SHORT)
        place = str(tmp_path_factory.mktemp("local"))
        hashes = prepared(inputs, place)
        trained(place)
        return place, hashes, used(inputs, place)


SHORT = Recipe(learning_rates=(3e-2,), decays=(0.0,), steps=10, batch=64)


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_everything_in_a_bucket(scheme, inputs, local, servers, machine, buckets, monkeypatch, tmp_path):
    monkeypatch.setattr(phones, "RECIPE", SHORT)
    place, hashes, figures = local
    machine("first", scheme)
    sources = upload(scheme, servers[scheme], inputs, "all/inputs")
    bucket = buckets[scheme]
    url = f"{scheme}://{BUCKET}/all"
    assert prepared(sources, url) == hashes
    uploaded = RunInBucket.uploaded

    def killed(self, may_fail):
        uploaded(self, may_fail)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunInBucket, "uploaded", killed)
    with pytest.raises(KeyboardInterrupt):
        trained(url)
    monkeypatch.setattr(RunInBucket, "uploaded", uploaded)

    machine("second", scheme)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    done = trained(url)
    assert done["step"] == 2 and trained(url) == done | {"finished_before": True, "compiled": 0}
    rows = [json.loads(line) for line in bytes(bucket.get("all/run/events.jsonl").bytes()).splitlines()]
    assert [(row["event"], row["step"]) for row in rows if "alive" in row] == [("start", 0), ("resume", 1)]
    assert rows[-1]["event"] == "done"
    there = names(bucket, "all/run")
    assert {"config.json", "metrics.jsonl", "events.jsonl", "checkpoints/2/checksums.json"} < there
    assert not any(name.startswith(".") for name in there)
    mine, theirs = (jax.tree.leaves(jepa_speech.load_pretrained(f"{one}/run").params) for one in (url, place))
    for ours, expected in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(ours, expected)
    found = (Labels(Store(f"{one}/store"), hashes[1]).slice(5, 0, 99) for one in (url, place))
    for ours, expected in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, expected)
    assert used(sources, url) == figures
    written = ["results/ours.json", "analysis/report.html", "exported/weights.safetensors", "exported/model.stablehlo"]
    for name in written:
        there = bytes(bucket.get(f"all/{name}").bytes())
        assert str(tmp_path).encode() not in there  # no path of the cache
    assert not list((tmp_path / "elsewhere").iterdir())
