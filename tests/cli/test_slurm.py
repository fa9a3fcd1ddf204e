"""The SLURM scripts of launch/, run with a stand-in for SLURM: what starts again, what is requeued, what ends a job.

`make test-slurm` runs the same scripts on a real SLURM.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from slurm.cluster import program
from support import slurm_stand_in

from jepa_speech import cli

LAUNCH = Path(__file__).parents[2] / "launch"
ARRAYS = sorted(LAUNCH.glob("*_array.sbatch"))
ARGUMENTS = {"prepare": ["in.jsonl", "my store", "--codec", "pcm16"], "label": ["my store", "gmm.npz", "--top-k", "4"]}
NASTY = "--config.data.store=/a b/$(touch x)';\"*"
TRAIN = ["--nodes=1", str(LAUNCH / "slurm.sbatch"), "c.py", "r", NASTY]


class Slurm:
    """SLURM on PATH, for tests that begin in an empty folder."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.working = folder / "slurm", folder / "working"
        self.bin = folder / "bin"
        for path in (self.folder, self.working, self.bin):
            path.mkdir()
        monkeypatch.chdir(self.working)
        monkeypatch.setenv("PATH", f"{self.bin}:{os.environ['PATH']}")
        for name in [name for name in os.environ if name.startswith("SLURM_") or name == "PARTS"]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("SLURM_NTASKS", "2")
        stand_in = shlex.join([sys.executable, "-S", slurm_stand_in.__file__, str(self.folder)])
        for name in ("sbatch", "srun", "scancel", "scontrol"):
            self.program(name, f'exec {stand_in} {name} "$@"')
        self.program("sleep", f"exec {shutil.which('sleep')} 0.05")

    def program(self, name: str, body: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)

    def submit(self, *arguments: str) -> int:
        return subprocess.run(["sbatch", *arguments], check=False).returncode

    def calls(self) -> list[str]:
        """The calls of programs, without sbatch, srun and the questions."""
        calls = [shlex.join(json.loads(line)) for line in (self.folder / "calls").read_text().splitlines()]
        return [call for call in calls if not call.startswith(("sbatch", "srun", "scontrol show"))]

    def starts(self) -> int:
        return (self.folder / "calls").read_text().count('["srun"')

    def show(self, **fields: str) -> None:
        """What `scontrol show job` prints from now on."""
        said = "JobId=7 JobName=x\n   " + " ".join(f"{name}={value}" for name, value in fields.items())
        (self.folder / "show.new").write_text(said)
        (self.folder / "show.new").replace(self.folder / "show")


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    slurm = Slurm(tmp_path, monkeypatch)
    yield slurm
    for pids in ("tasks", "script"):
        slurm_stand_in.send(slurm.folder / pids, signal.SIGKILL)


# A task takes its code from the list of its turn; a turn that saves leaves a checkpoint.
TASKS = """
turn=$(cat turn.$SLURM_PROCID 2>/dev/null || echo 1)
echo $((turn + 1)) >turn.$SLURM_PROCID
code=$(echo "$CODES" | cut -d' ' -f$turn | cut -d, -f$((SLURM_PROCID + 1)))
case $code in
    saves) mkdir -p r/checkpoints/$turn; exit 134 ;;
    half) mkdir -p r/checkpoints/$turn.orbax-checkpoint-tmp; exit 75 ;;
    hangs) exec tail -f /dev/null ;;
    killed) kill -9 $$ ;;
    *) exit $code ;;
esac"""


@pytest.mark.parametrize(
    ("codes", "ended", "starts"),
    [
        ("75,75 134,134 killed,134 hangs,134 0,0", 0, 5),
        ("1,1", 1, 1),
        ("hangs,134 " * 9, 137, 5),
        ("half,1 " * 9, 75, 5),  # a task fails before the others have found it
        ("134,saves " * 6 + "0,0", 0, 7),
    ],
)
def test_a_job_starts_again_while_it_makes_progress(codes, ended, starts, slurm, monkeypatch):
    monkeypatch.setenv("CODES", codes)
    slurm.program("jepa-speech", TASKS)
    assert slurm.submit("--cpus-per-task=6", *TRAIN) == ended
    assert (slurm.starts(), slurm.calls()) == (starts, [])
    calls = [json.loads(line) for line in (slurm.folder / "calls").read_text().splitlines()]
    train = ["jepa-speech", "train", "--config", "c.py", "--workdir", "r", NASTY]
    assert next(call for call in calls if call[0] == "srun")[3:] == ["--cpus-per-task=6", *train]


SAVES = "trap 'exit 75' TERM; touch up.$SLURM_PROCID; while :; do sleep 1; done"
COMPILES = "trap '' TERM; touch up.$SLURM_PROCID; while :; do sleep 1; done"


def running(slurm: Slurm, body: str) -> subprocess.Popen:
    """A job whose tasks run."""
    slurm.program("jepa-speech", body)
    job = subprocess.Popen(["sbatch", *TRAIN])
    end = time.monotonic() + 60
    while not all(Path(f"up.{task}").exists() for task in (0, 1)):
        assert time.monotonic() < end and job.poll() is None
        time.sleep(0.05)
    return job


def stamp(seconds: float) -> str:
    return (datetime.now() + timedelta(seconds=seconds)).isoformat(timespec="seconds")


@pytest.mark.parametrize("left", [3600, None])
def test_near_its_time_limit_a_job_saves_and_is_requeued(left, slurm):
    slurm.show(EndTime=stamp(left) if left else "Unknown", PreemptTime="None")
    job = running(slurm, SAVES)
    subprocess.run(["scancel", "--signal=USR1", "--batch", "7"], check=True)
    assert job.wait(60) == 75
    assert slurm.calls()[1:] == ["scancel --signal=TERM 7", "scontrol requeue 7"] and slurm.starts() == 1


def test_tasks_that_do_not_save_in_time_are_requeued_all_the_same(slurm):
    """As tasks that compile: after the end of its time, SLURM would not requeue the job."""
    slurm.show(EndTime=stamp(31), PreemptTime="None")
    job = running(slurm, COMPILES)
    subprocess.run(["scancel", "--signal=USR1", "--batch", "7"], check=True)
    assert job.wait(60) == 75
    assert slurm.calls()[1:] == ["scancel --signal=TERM 7", "scontrol requeue 7"] and slurm.starts() == 1


def test_a_job_that_is_preempted_with_a_grace_time_is_not_started_in_place(slurm):
    """SLURM signals the tasks alone at the beginning of the grace time."""
    job = running(slurm, SAVES)
    slurm.show(PreemptEligibleTime=stamp(-9), PreemptTime=stamp(0))
    subprocess.run(["scancel", "--signal=TERM", "7"], check=True)
    assert job.wait(60) == 75
    assert slurm.calls()[1:] == ["scontrol requeue 7"] and slurm.starts() == 1


@pytest.mark.parametrize("path", ARRAYS, ids=lambda path: path.name)
@pytest.mark.parametrize("parts", ["", "20"])
def test_an_array_writes_its_parts(path, parts, slurm, monkeypatch):
    verb = path.name.partition("_")[0]
    if parts:
        monkeypatch.setenv("PARTS", parts)
    slurm.program("jepa-speech", f'[ "$SLURM_ARRAY_TASK_ID" = 3 ] && printf "%s\\n" "$@" >{slurm.folder}/said; exit 0')
    assert slurm.submit("--array=0-3", str(path), *ARGUMENTS[verb]) == 0
    options = cli.parse((slurm.folder / "said").read_text().splitlines())
    assert options.verb == verb and options.part == (3, int(parts or 4))
    assert "my store" in (getattr(options, "out", ""), getattr(options, "store", ""))
    assert getattr(options, "workers", 8) == 8 and getattr(options, "top_k", 4) == 4
    assert len(list(slurm.working.glob(f"jepa-speech-{verb}-7_*.out"))) == 4


@pytest.mark.parametrize("path", ARRAYS, ids=lambda path: path.name)
def test_an_array_script_without_array_says_so(path, slurm):
    slurm.program("jepa-speech", "exit 0")
    assert slurm.submit(str(path), "a", "b") != 0
    (output,) = slurm.working.glob("*.out")
    assert "--array=0-N" in output.read_text()


def test_the_tests_on_a_real_slurm_say_what_to_install():
    with pytest.raises(FileNotFoundError, match=r"no-such-daemon: .*\(Debian: slurm-wlm, munge\)"):
        program("no-such-daemon")
