"""Stand-in for SLURM's sbatch, srun, scancel and scontrol: one job at a time, in processes of this machine.

    python slurm_stand_in.py FOLDER NAME ARGUMENT...

It does what SLURM 22.05 was seen to do (`make test-slurm`):

- sbatch refuses --gpus-per-task without --gpus or --ntasks. If the folder of --output is missing, it accepts the job,
  which then ends with 53 and never runs. It runs all jobs of an array, and returns once they have ended.
- srun returns the highest code of its tasks. It kills those that are left --wait seconds after the first has ended.
- scancel --signal signals the tasks. With --batch, it signals the script instead.
- scontrol requeue signals both with TERM, and kills what is left after KillWait.

FOLDER has the job's state: `calls` (each call, as a line of JSON), `show` (what `scontrol show job` prints), `script`
and `tasks` (process ids). A second of --wait and KillWait is 10 ms here.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

SECOND = 0.01
KILL_WAIT = 30


def sbatch(folder: Path, arguments: list[str]) -> int:
    script = next(i for i, argument in enumerate(arguments) if not argument.startswith("-"))
    lines = Path(arguments[script]).read_text().splitlines()
    given = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")] + arguments[:script]
    options = {name: value for name, _, value in (option.partition("=") for option in given)}
    if "--gpus-per-task" in options and not options.keys() & {"--gpus", "--ntasks"}:
        print(
            "sbatch: error: Failed to validate job spec. --gpus-per-task used without either --gpus or -n/--ntasks is"
        )
        return 1
    print("Submitted batch job 7")
    variables = {"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": options.get("--cpus-per-task", "1")}
    if "--array" not in options:
        return job(folder, arguments[script:], options["--output"].replace("%j", "7"), options, variables)
    first, last = map(int, re.fullmatch(r"(\d+)-(\d+)", options["--array"]).groups())
    codes = []
    for index in range(first, last + 1):
        task = {"SLURM_ARRAY_TASK_ID": str(index), "SLURM_ARRAY_TASK_COUNT": str(last - first + 1)}
        output = options["--output"].replace("%A", "7").replace("%a", str(index))
        codes.append(job(folder, arguments[script:], output, options, variables | task))
    return max(codes)


def job(folder: Path, command: list[str], output: str, options: dict[str, str], variables: dict[str, str]) -> int:
    path = Path(output.replace("%x", options["--job-name"]))
    if not path.parent.is_dir():
        return 53
    with path.open("ab") as file:
        script = subprocess.Popen(["bash", *command], env=os.environ | variables, stdout=file, stderr=file)
    (folder / "script").write_text(str(script.pid))
    return script.wait()


def srun(folder: Path, arguments: list[str]) -> int:
    command = next(i for i, argument in enumerate(arguments) if not argument.startswith("-"))
    options = dict(option.split("=") for option in arguments[:command])
    count = int(os.environ.get("SLURM_NTASKS", "1"))
    tasks = [
        subprocess.Popen(arguments[command:], env=os.environ | {"SLURM_PROCID": str(i)}, start_new_session=True)
        for i in range(count)
    ]
    (folder / "tasks").write_text(" ".join(str(task.pid) for task in tasks))
    ended = None
    while any(task.poll() is None for task in tasks):
        if ended is None and any(task.poll() is not None for task in tasks):
            ended = time.monotonic()
        if ended is not None and time.monotonic() - ended > int(options["--wait"]) * SECOND:
            send(folder / "tasks", signal.SIGKILL)
        time.sleep(SECOND)
    return max(128 - task.returncode if task.returncode < 0 else task.returncode for task in tasks)


def scancel(folder: Path, arguments: list[str]) -> int:
    number = next(signal.Signals[f"SIG{a.removeprefix('--signal=')}"] for a in arguments if a.startswith("--signal="))
    send(folder / ("script" if "--batch" in arguments else "tasks"), number)
    return 0


def scontrol(folder: Path, arguments: list[str]) -> int:
    if arguments[0] == "show":
        print((folder / "show").read_text() if (folder / "show").exists() else "JobId=7\n   PreemptTime=None")
    elif arguments[0] == "requeue":
        for name in ("tasks", "script"):
            send(folder / name, signal.SIGTERM)
        if os.fork() == 0:
            time.sleep(KILL_WAIT * SECOND)
            send(folder / "tasks", signal.SIGKILL)
    return 0


def send(pids: Path, number: signal.Signals) -> None:
    """Signals the process groups of tasks, or a script."""
    for pid in pids.read_text().split() if pids.exists() else []:
        with suppress(ProcessLookupError):
            (os.killpg if pids.name == "tasks" else os.kill)(int(pid), number)


if __name__ == "__main__":
    state, name, *given = sys.argv[1:]
    with Path(state, "calls").open("a") as calls:
        calls.write(json.dumps([name, *given]) + "\n")
    programs = {"sbatch": sbatch, "srun": srun, "scancel": scancel, "scontrol": scontrol}
    raise SystemExit(programs[name](Path(state), given))
