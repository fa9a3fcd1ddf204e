"""Pictures and reports of names that hold anything."""

import numpy as np
from matplotlib.cbook import is_math_text
from matplotlib.text import Text

from jepa_speech.analysis import cluster_plots, report
from jepa_speech.probing import plots, result_plots
from jepa_speech.probing.bootstrap import Estimate

NAMES = [
    r"$\bad{$",
    "caf\udce9 a$b$c",
    "\ud800 " + 30 * "long ",
    "日本語 <img src=x onerror=alert(1)>",
    "_x^2_ 5$\n\\alpha",
]


def drawings(names):
    """Every kind of text that names get into: ticks, titles, legends, axes' labels, texts within."""
    rng = np.random.default_rng(0)
    head = {"valid": 0.5, "figures": {names[0]: {"value": 0.5, "low": 0.4, "high": 0.6}}}
    part = {"figures": {names[0]: "higher"}, "heads": {f"layer {i}": head for i in range(3)} | {"weighted": head},
            "curve": [[1, 0.2], [2, 0.3]]}  # fmt: skip
    yield result_plots.confusion(np.eye(5), names, names[1])
    yield result_plots.by_layer(part, names[1])
    yield result_plots.learning_curve(part, names[1])
    yield result_plots.layer_weights([0.5, 0.5], names[2])
    yield result_plots.systems({name: Estimate(0.5, 0.4, 0.6) for name in names}, part, names[3])
    yield plots.projection(rng.normal(size=(20, 3)), np.array(names * 4), "phone")
    segments = [(name, 0.1 * i, 0.1 * i + 0.1) for i, name in enumerate(names)]
    yield plots.clusters_over_time(rng.normal(size=16_000), {"model": np.arange(49)}, segments)
    yield plots.usage({"model": np.array([1, 100, 100_000])})  # a logarithmic axis
    layers = {name: [0, 1] for name in names[:3]}
    yield cluster_plots.ranks({name: ([1.0, 2.0], 3) for name in names})
    yield cluster_plots.dots({name: {"model": {"f": 1.0}} for name in names}, {"f": names[0]})
    yield cluster_plots.cka_maps({(a, b): np.eye(2) for a in layers for b in layers}, layers)
    yield cluster_plots.cka_labels({name: {"random": [0.1, 0.2]} for name in layers}, layers)


def test_a_tone_is_at_its_frequency_in_the_spectrogram():
    time = np.arange(16_000) / 16_000
    decibels, centres = plots.mel_decibels(np.sin(2 * np.pi * 1000 * time))
    assert decibels.shape == (plots.BANDS, 101) and decibels.max() == 0
    assert abs(centres[decibels.mean(1).argmax()] - 1000) < 30


def test_names_are_drawn_as_they_are_written():
    for figure in drawings(NAMES):
        assert report.png(figure).startswith(b"\x89PNG")
        for text in figure.findobj(Text):
            written = text.get_text()
            written.encode("utf-8")
            assert not is_math_text(written) or written.startswith(r"$\mathdefault{")  # of a logarithmic axis


def test_a_report_holds_them_too(tmp_path):
    sections = [report.Section(name, name, [[name, name], [name, name]]) for name in NAMES]
    report.write(tmp_path / "report.html", "caf\udce9", sections, note="\ud800")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<title>caf\\udce9</title>" in page and "<img src=x" not in page
    assert page.count('<a href="#s') == page.count("</a> <a") + 1  # where a line may break
