"""The analysis on toy systems, and pictures and reports that hold what they should."""

import re

import numpy as np
import pytest
from support.audio_files import write_tones
from support.labelled_corpus import PHONES, knowing, write_spoken
from support.toys import toy_anchor

from jepa_speech.analysis import collect as analysis
from jepa_speech.analysis import report, side_by_side, training_curves
from jepa_speech.analysis.recordings import from_manifest, from_store
from jepa_speech.probing import result_plots
from jepa_speech.probing.bootstrap import Estimate
from jepa_speech.store.prepare import prepare
from jepa_speech.store.store import Store


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_spoken(tmp_path_factory.mktemp("spoken") / "data")


def looked_at(corpus, model, targets, **changes):
    listed = from_manifest(corpus, "valid", **({"count": 3, "seed": 0, "seconds": 20.0} | changes))
    subject = analysis.Subject(lambda wave: knowing(corpus)(wave, 16_000), model, targets, model and half_hidden(model))
    found, _ = analysis.analyse(listed, {"toy": subject}, compared=False)
    return found["toy"]


def half_hidden(model):
    """Masks every second frame, where the head is then uniform."""

    def masked(wave, number):
        p = np.array(model(wave), float)
        p[::2] = 1 / p.shape[1]
        return p, np.arange(len(p)) % 2 == 0

    return masked


def test_a_head_that_is_its_target_has_its_figures(corpus):
    posteriors = analysis.anchor_posteriors(toy_anchor())
    found = looked_at(corpus, posteriors, posteriors)
    at_hidden = ("entropy_hidden", "kl_hidden", "effective_rank")  # the rank of labels is not that of layers
    same = [{k: v for k, v in found.table[name].items() if k not in at_hidden} for name in ("model", "targets")]
    assert same[0] == same[1] and set(found.table) == {"model", "targets", "random"}
    assert found.table["model"]["entropy_hidden"] == pytest.approx(np.log(8))
    assert found.table["model"]["kl_hidden"] == pytest.approx(found.table["random"]["kl_hidden"])
    assert found.table["targets"]["pnmi"] > 2 * found.table["random"]["pnmi"]
    assert found.table["random"]["usage_entropy"] > 0.9
    assert 1 <= found.table["model"]["posterior_perplexity"] <= 8
    assert found.recordings == 3 and found.seconds == pytest.approx(2.4) and found.clusters == 8
    assert set(found.sample_labels) == set(PHONES) and found.width == 3
    assert found.ranks[0] == pytest.approx(3, abs=0.05)  # noise fills all three axes
    lines = side_by_side.rows(side_by_side.columns({"toy": found}))
    assert lines[0] == ["", "model", "targets", "random"] and len(lines) == 1 + len(side_by_side.FIGURES)


def test_a_head_that_knows_the_phone_has_pnmi_1(corpus):
    found = looked_at(corpus, lambda wave: knowing(corpus)(wave, 16_000)[1] + 1e-9, None)
    assert found.table["model"]["pnmi"] == pytest.approx(1) and found.table["model"]["phone_purity"] == 1
    assert set(found.table) == {"model", "random"}


def test_without_head_or_targets_ranks_remain(corpus):
    found = looked_at(corpus, None, None)
    assert found.table == {} and len(found.ranks) == 2
    assert set(side_by_side.figures(found)) == {"effective_rank", "similarity", "projection"}


def test_the_list_is_fixed_by_the_seed_alone(tmp_path):
    write_tones(tmp_path / "audio", 12)
    prepare([str(tmp_path / "audio")], tmp_path / "store", workers=1)
    store = Store(tmp_path / "store")
    draw = {"count": 4, "seconds": 0.1}
    names = [[r.name for r in from_store(store, seed=seed, **draw)] for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2] and len(set(names[0])) == 4
    assert {len(r.wave) for r in from_store(store, seed=0, **draw)} == {1600}


def test_targets_of_a_mean_normalised_anchor_do_not_see_a_filter(corpus):
    """A fixed gain per band, and the level, go away with the utterance's mean."""
    from dataclasses import replace

    anchor = toy_anchor("mfcc")
    recording = next(iter(from_manifest(corpus, "valid", 1, 0, 20.0)))
    moved = replace(anchor, shift=anchor.shift + 5)
    plain, mean = (analysis.anchor_posteriors(replace(a, normalize=n)) for a, n in ((anchor, "level"), (moved, "mean")))
    assert plain(recording.wave).shape == (39, 8)
    np.testing.assert_allclose(plain(recording.wave).sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(mean(recording.wave), mean(0.3 * recording.wave), atol=1e-3)


def test_pictures_and_report(corpus, tmp_path):
    posteriors = analysis.anchor_posteriors(toy_anchor())
    found = looked_at(corpus, posteriors, posteriors, count=1)
    rng = np.random.default_rng(0)
    cka = {("a", "a"): np.eye(2), ("a", "b"): rng.random((2, 3)), ("b", "b"): np.eye(3)}
    pairs = [{"of": a, "with": b, "cka": table.tolist()} for (a, b), table in cka.items()]
    labels = {"a": {"targets": [0.1, 0.2], "random": [0.0, None]}}
    similar = {"pairs": pairs, "labels": labels, "layers": {"a": [0, 1], "b": [0, 1, 2]}}
    estimates = [{"value": 0.3 + 0.1 * i, "low": 0.25, "high": 0.6} for i in range(2)]
    heads = {f"layer {i}": {"valid": 0.5, "figures": {"accuracy": values}} for i, values in enumerate(estimates)}
    heads["weighted"] = heads["layer 1"]
    curve = [{"step": i, "loss": 1.0 / i, "cluster": None if i == 2 else 2.0 / i, "lambda": 1 / i} for i in range(1, 9)]
    curve[3] |= {"probe_rank_layer_0": 3.0, "probe_rank_layer_1": 2.0, "probe_phone_accuracy": None}
    curve[7] |= {"probe_rank_layer_0": 4.0, "probe_rank_layer_1": 1.5, "probe_phone_accuracy": 0.4}
    part = {"figures": {"accuracy": "higher"}, "heads": heads, "layer_weights": [0.4, 0.6]}
    part |= {"confusion": [[3, 0], [1, 2]], "classes": ["A", "B"], "curve": [[0, 0.1], [50, 0.4]]}
    figures = side_by_side.figures(found) | result_plots.of_results({"tasks": {"phones": part}})
    figures["curves"] = training_curves.curves(curve)
    drawn = {axes.get_ylabel(): [line.get_xydata().tolist() for line in axes.lines] for axes in figures["curves"].axes}
    assert list(drawn)[1:] == ["λ", "phone\naccuracy", "effective\nrank"] and drawn["phone\naccuracy"] == [[[8, 0.4]]]
    assert drawn["effective\nrank"] == [[[4, 3.0], [8, 4.0]], [[4, 2.0], [8, 1.5]]]
    figures |= side_by_side.cka_figures(similar) | side_by_side.shared_figures({"a": found, "b": found})
    assert {"cka", "cka_labels", "ranks", "figures", "hesitation", "cooccurrence", "duration"} <= set(figures)
    figures["systems"] = result_plots.systems(
        {"ours": Estimate(0.4, 0.3, 0.5), "logmel": Estimate(0.3, 0.2, 0.4)}, part | {"chance": 0.1}, "phones"
    )
    report.save_figures(tmp_path, figures)
    for name in figures:
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    path = tmp_path / "report.html"
    sections = [report.Section("One <b>", "a & b", [["x"], ["<1>"]], list(figures.values())), report.Section("Two")]
    sections.append(report.Section("Files", figures=sorted(tmp_path.glob("*.png"))))
    report.write(path, "Title", sections, note="made by a test")
    page = path.read_text(encoding="utf-8")
    assert page.count('src="data:image/png;base64,') == 2 * len(figures)
    assert not re.search(r'(src|href)="(?!data:|#)', page) and "http" not in page  # opens offline
    assert "One &lt;b&gt;" in page and "a &amp; b" in page and "&lt;1&gt;" in page
