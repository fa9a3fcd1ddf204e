"""A run that hangs ends itself with 75 and says where."""

import time

import pytest
from training.test_resume import toy_process

from jepa_speech.training.checkpoint import read_weights
from jepa_speech.training.watchdog import Watchdog


def test_a_loader_that_hangs(tmp_path):
    result = toy_process(tmp_path, 3, "HANG", "watchdog_seconds=6", "checkpoint_every=100")
    assert result.returncode == 75, result.stderr
    (said,) = [line for line in result.stderr.splitlines() if "no step for" in line]
    assert "no step for 6 s; the last was 3; " in said and f"{tmp_path / 'stacks-0.txt'} has the stacks" in said
    stacks = (tmp_path / "stacks-0.txt").read_text()
    assert "no step for 6 s; the last was 3\n" in stacks.partition("\n\n")[0] + "\n"
    assert "in treacherous" in stacks and "Current thread" in stacks


@pytest.mark.parametrize("way", [["SIGINT", "HANG"], ["SPIN"], ["BLOCK"]])
def test_a_step_that_does_not_end_after_a_signal(tmp_path, way):
    """The loader hangs, or is within a call that lets no handler written in Python run, or the device's work hangs."""
    result = toy_process(tmp_path, 3, *way, "stop_seconds=2", "watchdog_seconds=0", "checkpoint_every=2")
    assert result.returncode == 75, result.stderr
    (said,) = [line for line in result.stderr.splitlines() if "did not end within" in line]
    signal = "SIGINT" if "SIGINT" in way else "SIGTERM"
    steps = (3, 4) if way == ["BLOCK"] else (3,)  # the loop may have gone on while the device's work began
    assert any(
        f"{signal}, and step {n + 1} did not end within " in said and f"; the last was {n}; " in said for n in steps
    )
    stacks = (tmp_path / "stacks-0.txt").read_text()
    assert "did not end within" in stacks.partition("\n\n")[0]
    assert ("in block" if way == ["BLOCK"] else "in treacherous") in stacks
    assert read_weights(tmp_path)[0] == 2


def test_a_step_that_ends_in_time_is_saved(tmp_path, monkeypatch):
    """The limit is three times the longest step, if that is more; pauses do not count; the save is not limited."""
    given_up = []
    monkeypatch.setattr(Watchdog, "_give_up", lambda self, what: given_up.append(what))
    with Watchdog(0, tmp_path, 0, 5, stop_seconds=0.2) as watchdog:
        watchdog.hurry("SIGTERM")
        watchdog.saving()
        time.sleep(0.5)
    with Watchdog(0, tmp_path, 0, 5, stop_seconds=0.2) as watchdog:
        watchdog.longest = 600
        watchdog.hurry("SIGTERM")
        time.sleep(0.5)
    with Watchdog(0, tmp_path, 0, 5, stop_seconds=0.2) as watchdog, watchdog.paused():
        watchdog.hurry("SIGTERM")
        time.sleep(0.5)
    with Watchdog(0, tmp_path, 0, 5, stop_seconds=0) as watchdog:
        watchdog.hurry("SIGTERM")
        time.sleep(0.2)
    assert not given_up


def test_what_is_paused_or_off_does_not_count(tmp_path, monkeypatch):
    """Were time counted in either, the process would be gone."""
    given_up = []
    monkeypatch.setattr(Watchdog, "_give_up", lambda self, what: given_up.append(self.step))
    with Watchdog(0, tmp_path, 0, 5) as off, Watchdog(0.2, tmp_path, 1, 5) as watchdog:
        assert not off.thread.is_alive()
        with watchdog.paused():
            time.sleep(0.5)
            assert not given_up
        while not given_up:
            time.sleep(0.01)
    assert set(given_up) == {5}
    watchdog.thread.join()
