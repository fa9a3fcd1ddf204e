"""benchmarks/gpu.py without a GPU: its table, and that a program which is timed is alone."""

import os
import threading
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def measured(rate: float) -> dict[str, float]:
    times = {"step_seconds_median": 100 / rate, "step_seconds_min": 80 / rate, "step_seconds_max": 200 / rate}
    return times | {"audio_seconds_per_second": rate, "mfu_of_matmul": 0.25, "mfu_of_sheet": 0.2}


def test_the_table_says_what_was_measured_and_what_was_not(benchmarks: None) -> None:
    import gpu

    programs = {
        "ours hubert": measured(300.0),
        "peer published:hubert": measured(100.0),
        "ours wavlm": {"failed": ["out of memory"]},
        "peer published:wavlm": {"skipped": "no time left"},
        "ours anchors": {"frames_per_second": {"posteriors, ours": 2e6}},
        "ours warm start": {"seconds": 12.3, "compile_seconds": 1.2},
    }
    machine = {"device": "a GPU", "python": "3", "versions": {"jax": "1", "torch": ""}}
    report = {"machine": machine, "options": [], "rows": 1, "seconds": 100, "programs": programs, "minutes": 1.5}
    rows = {line.split(" | ")[0].strip("| "): line for line in gpu.table(report).splitlines()}
    assert "| 300 (150 to 375) | 25.0%, 20.0% |" in rows["HuBERT Base"] and "| 3.00 | 2 |" in rows["HuBERT Base"]
    assert "| failed |" in rows["WavLM Base"] and "| no time left |" in rows["WavLM Base"]
    assert rows["DinoSR Base"].count("not measured") == 2
    assert "2,000,000 frames/s" in gpu.table(report) and "12.3 s, of which compiling 1.2 s" in gpu.table(report)


def test_who_is_timed_is_alone(benchmarks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gpu_programs import Device

    monkeypatch.setenv("JEPA_SPEECH_BENCH_LOCK", str(tmp_path / "lock"))
    compiling, timed, begun = Device(), Device(), threading.Event()

    def time_it() -> None:
        with timed.alone():
            begun.set()

    thread = threading.Thread(target=time_it)
    thread.start()
    assert not begun.wait(0.2)
    os.close(compiling.lock)  # as at the end of its process
    assert begun.wait(5)
    thread.join()
    os.close(timed.lock)
