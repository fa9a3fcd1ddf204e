"""The progress bar."""

import pytest

from jepa_speech.training.metrics import Bar


def test_the_bar_counts_neither_compiling_nor_waits_at_the_start(monkeypatch):
    """Two buckets are compiled for 100 s each; a step takes 2 s."""
    now, rates = [1000.0], {"audio_seconds_per_second": 1.0, "flops_per_second": 1.0, "data_wait_share": 0.02}
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    bar = Bar(0, 100, shown=True)
    for _ in range(2):
        now[0] += 100.0
        bar.leave_out(100.0)
        now[0] += 2.0
        bar.show({"loss": 1.0}, rates | {"fetch_wait_share": 0.3})
    shown = bar.bar.format_dict
    assert shown["elapsed"] == pytest.approx(4.0) and shown["n"] == 2
    assert shown["postfix"].endswith("fetch wait 30%, data wait 2%")
    assert shown["rate"] is None or shown["rate"] == pytest.approx(0.5)
    bar.close()
