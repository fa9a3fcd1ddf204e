"""A run that hangs ends itself with 75 and says where."""

import time

from train.test_resume import toy_process

from jepa_speech.train.watchdog import Watchdog


def test_a_loader_that_hangs(tmp_path):
    result = toy_process(tmp_path, 3, "HANG", "watchdog_seconds=6", "checkpoint_every=100")
    assert result.returncode == 75, result.stderr
    (said,) = [line for line in result.stderr.splitlines() if "no step for" in line]
    assert "no step for 6 s; the last was 3; " in said and f"{tmp_path / 'stacks-0.txt'} says where" in said
    stacks = (tmp_path / "stacks-0.txt").read_text()
    assert "no step for 6 s; the last was 3\n" in stacks.partition("\n\n")[0] + "\n"
    assert "in treacherous" in stacks and "Current thread" in stacks


def test_what_is_paused_or_off_does_not_count(tmp_path, monkeypatch):
    """Were time counted in either, the process would be gone."""
    given_up = []
    monkeypatch.setattr(Watchdog, "_give_up", lambda self: given_up.append(self.step))
    with Watchdog(0, tmp_path, 0, 5) as off, Watchdog(0.2, tmp_path, 1, 5) as watchdog:
        assert not off.thread.is_alive()
        with watchdog.paused():
            time.sleep(0.5)
            assert not given_up
        while not given_up:
            time.sleep(0.01)
    assert set(given_up) == {5}
    watchdog.thread.join()
