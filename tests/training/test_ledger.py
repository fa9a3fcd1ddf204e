"""Where wall time went: a ledger with a known answer, and that of a real run that was killed."""

import json
import time
from pathlib import Path

import pytest
from training.test_resume import toy_process
from training.test_step import rows
from training.toy import main as toy_main

from jepa_speech.cli import main
from jepa_speech.errors import UserError
from jepa_speech.training.ledger import PARTS, goodput

SECONDS = dict.fromkeys(PARTS, 0.0)


def span(end: float, after: int, to: int, seconds: float, **spent: float) -> dict:
    waits = {"fetch_wait": 0.0, "data_wait": 0.0, "compile": 0.0, "evaluation": 0.0, "checkpoint": 0.0} | spent
    return {"time": end, "event": "steps", "after": after, "to": to, "seconds": seconds} | waits


def begin(began: float, seconds: float, step: int, lost_steps: int = 0, alive: float | None = None) -> dict:
    event = {"time": began + seconds, "event": "resume" if step else "start", "step": step}
    return event | {"began": began, "seconds": seconds, "lost_steps": lost_steps, "alive": alive}


# Killed 5 s after its last event, which the rows of 3 steps past the save tell; 20 s later it starts again.
KILLED = [
    begin(1000, 10, 0),
    span(1030, 0, 4, 20, compile=6, data_wait=2, fetch_wait=3, checkpoint=1),
    {"time": 1030, "event": "save", "step": 4},
    span(1040, 4, 6, 10, data_wait=3, fetch_wait=1),
    begin(1065, 5, 4, lost_steps=3, alive=1045),
    span(1090, 4, 8, 20, compile=4, evaluation=1, checkpoint=2),
    {"time": 1090, "event": "save", "step": 8},
    {"time": 1090, "event": "done", "step": 8},
]


def test_a_ledger_with_a_known_answer():
    found = goodput(KILLED)
    known = {"step": 21, "fetch_wait": 3, "data_wait": 2, "compile": 10, "evaluation": 1, "checkpoint": 3}
    known |= {"init": 15, "lost": 15, "down": 20}
    assert found["seconds"] == SECONDS | known
    assert found["wall"] == 90 == sum(known.values())
    assert (found["attempts"], found["lost_steps"], found["step"], found["goodput"]) == (2, 3, 8, round(21 / 90, 4))


def test_a_kill_that_nothing_tells_of_is_down_time():
    """Without rows past the save nobody knows how long the process lived after its last event."""
    found = goodput([*KILLED[:3], begin(1065, 5, 4), *KILLED[5:]])
    assert found["seconds"]["lost"] == 0 and found["seconds"]["down"] == 35 and found["wall"] == 90


def test_attempts_that_never_reached_a_save_are_lost_for_good():
    again = [begin(100, 1, 0), span(103, 0, 2, 2), begin(110, 1, 0), span(113, 0, 2, 2), begin(120, 1, 0)]
    found = goodput([*again, span(125, 0, 4, 4)])
    assert found["seconds"] == SECONDS | {"step": 4, "init": 3, "lost": 4, "down": 14} and found["wall"] == 25


def test_no_ledger():
    with pytest.raises(UserError, match="has no times"):
        goodput([{"time": 1.0, "event": "start", "step": 0}])  # as older versions wrote it


def test_a_real_run_that_was_killed_adds_up(tmp_path, capsys):
    began = time.time()
    assert toy_process(tmp_path, 6, "SIGKILL").returncode == -9
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"time": 17')  # torn by the kill
    toy_main(str(tmp_path))
    ended = time.time()
    first, second = [event for event in rows(tmp_path, "events") if event["event"] in ("start", "resume")]
    assert second["step"] + second["lost_steps"] == 5  # rows of 5 steps were written before the sixth was asked for
    assert main(["goodput", str(tmp_path), "--json", str(tmp_path / "goodput.json")]) == 0
    found = json.loads(Path(tmp_path / "goodput.json").read_text())
    last = rows(tmp_path, "events")[-1]
    assert last["event"] == "done"
    assert found["wall"] == pytest.approx(last["time"] - first["began"], abs=0.1)
    assert found["wall"] == pytest.approx(sum(found["seconds"].values()), abs=0.1)
    assert 0 < found["wall"] <= ended - began + 0.1
    assert found["lost_steps"] == second["lost_steps"] and found["attempts"] == 2 and found["step"] == 12
    assert all(seconds >= 0 for seconds in found["seconds"].values())
    assert "down between attempts" in capsys.readouterr().out
    assert main(["goodput", str(tmp_path / "nowhere")]) == 1


def test_the_clock_of_a_run_has_no_gaps(tmp_path):
    toy_main(str(tmp_path), -1, "steps=6")
    events = rows(tmp_path, "events")
    spans = [event for event in events if event["event"] == "steps"]
    assert [(event["after"], event["to"]) for event in spans] == [(0, 1), (1, 3), (3, 4), (4, 6), (6, 6)]
    assert {event["event"] for event in events} >= {"start", "compile", "rates", "steps", "save", "done"}
    start, done = events[0], events[-1]
    told = start["began"] + start["seconds"] + sum(event["seconds"] for event in spans)
    assert told == pytest.approx(done["time"], abs=0.05)
