"""benchmarks/gpu.py without a GPU: its table, and that a program which is timed is alone."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, "anchors", raising=False)  # pytest's, of tests/anchors


def measured(rate: float) -> dict[str, float]:
    times = {"step_seconds_median": 100 / rate, "step_seconds_min": 80 / rate, "step_seconds_max": 200 / rate}
    return times | {"audio_seconds_per_second": rate, "mfu_of_matmul": 0.25, "mfu_of_sheet": 0.2}


def test_the_table_holds_what_was_measured_and_nothing_that_failed(benchmarks: None) -> None:
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
    rows = {line.split(" | ")[0].strip("| "): line for line in gpu.markdown(report).splitlines()}
    assert "| 300 (150 to 375) | 25.0%, 20.0% |" in rows["HuBERT Base"] and "| 3.00 | 2 |" in rows["HuBERT Base"]
    assert len(gpu.steps_table(report)) == 2  # head and HuBERT: WavLM failed, nobody asked for DinoSR
    assert "2,000,000 frames/s" in gpu.markdown(report) and "12.3 s, of which compiling 1.2 s" in gpu.markdown(report)


COUNTING = """
import sys, time
sys.path.insert(0, {benchmarks!r})
from gpu_programs import Device
device = Device()
for count in range(10_000):
    print(count, file=open({counts!r}, "w"), flush=True)
    time.sleep(0.01)
"""


def test_while_one_is_timed_all_others_stand_still(
    benchmarks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpu_programs import Device

    counts = tmp_path / "counts"
    monkeypatch.setenv("JEPA_SPEECH_BENCH_LOCK", str(tmp_path / "lock"))
    code = COUNTING.format(benchmarks=str(BENCHMARKS), counts=str(counts))
    timed = Device()
    with subprocess.Popen([sys.executable, "-c", code], process_group=0) as other:
        try:
            wait_for(lambda: counts.exists() and counts.read_text())
            with timed.alone():
                before = counts.read_text()
                time.sleep(0.3)
                assert counts.read_text() == before
            wait_for(lambda: counts.read_text() not in ("", before))
            with timed.alone():
                later = threading.Thread(target=lambda: begun.append(Device()), args=())
                begun: list[Device] = []
                later.start()
                later.join(0.2)
                assert not begun  # a program that starts while another is timed waits
            later.join(5)
            assert begun
        finally:
            other.kill()
    with timed.alone():  # a program that has ended does not matter
        pass
    timed.leave()
    assert not list(tmp_path.glob(f"lock/{os.getpgrp()}.program"))


def test_who_stood_still_for_one_that_died_goes_on(
    benchmarks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gpu

    counts, told = tmp_path / "counts", []
    monkeypatch.setenv("JEPA_SPEECH_BENCH_LOCK", str(tmp_path / "lock"))
    code = COUNTING.format(benchmarks=str(BENCHMARKS), counts=str(counts))

    def die(command: list[str], **how: object) -> None:
        os.killpg(other.pid, signal.SIGSTOP)
        raise subprocess.CalledProcessError(-signal.SIGKILL, command)

    with subprocess.Popen([sys.executable, "-c", code], process_group=0) as other:
        try:
            wait_for(lambda: counts.exists() and counts.read_text())
            monkeypatch.setattr(gpu.subprocess, "run", die)
            gpu.lane("ours", iter(["hubert"]), [], time.monotonic() + 60, lambda *found: told.append(found))
            before = counts.read_text()
            wait_for(lambda: counts.read_text() not in ("", before))
        finally:
            other.kill()
    assert told == [("ours", "hubert", {"failed": []})]


def wait_for(done: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_anchors_are_measured_beside_their_peers(benchmarks: None, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("torch")
    from gpu_programs import Device, Size, anchors

    monkeypatch.setenv("JEPA_SPEECH_BENCH_LOCK", str(tmp_path / "lock"))
    rates = anchors(Device(), Size(1, 1.0, toy=True))["frames_per_second"]
    whose = {"posteriors": ("ours", "sklearn"), "one EM iteration": ("ours", "sklearn")}
    whose["posteriors on the device"] = "ours", "torch broadcast"
    assert set(rates) == {f"{what}, {one}" for what, names in whose.items() for one in names}
    assert min(rates.values()) > 0
