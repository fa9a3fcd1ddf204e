#!/usr/bin/env bash
# wandb 0.31.0, offline mode: rows of a run that is killed.
#
# One would guess that a row is in the .wandb file soon after run.log returns, as with TensorBoard's event files, since a
# separate process (wandb-core) writes the file. A killed training process would then lose at most its last row.
#
# Seen: rows reach the file in intervals of about 15 s. Nothing flushes them when the training process is killed. A process
# that is killed two seconds after 20 rows leaves a file of 7 bytes, which is the header alone. With 20 s before the kill,
# all rows are there. A preempted job loses up to 15 s of rows, and a resumed run with the same id does not read the file.
#
# What to do: log lost rows again when a run resumes. jepa_speech logs the whole run again from its own metrics.jsonl.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check wandb==0.31.0

cat >"$work/log.py" <<'PY'
import os
import signal
import sys
import time

import wandb

folder, seconds = sys.argv[1:]
run = wandb.init(project="p", mode="offline", dir=folder, settings=wandb.Settings(console="off", silent=True))
for step in range(20):
    run.log({"loss": 1 / (step + 1)}, step=step, commit=True)
time.sleep(float(seconds))
os.kill(os.getpid(), signal.SIGKILL)
PY

cat >"$work/killed.py" <<'PY'
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

print("wandb", version("wandb"))
found = {}
for seconds in (2, 20):
    folder = Path(sys.argv[1], f"killed-after-{seconds}-s")
    folder.mkdir()
    code = subprocess.run([sys.executable, Path(sys.argv[1], "log.py"), folder, str(seconds)]).returncode
    assert code == -9, code
    time.sleep(5)  # wandb-core notices, and ends
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    found[seconds] = path.read_bytes()
    print(f"killed {seconds} s after 20 rows: {len(found[seconds])} bytes, loss in {found[seconds].count(b'loss')} places")
assert found[2][:4] == b":W&B" and len(found[2]) == 7, "rows now reach the file within seconds, or when a process is killed"
assert found[20].count(b"loss") >= 20, "rows no longer reach the file within 20 s"
PY
"$work/venv/bin/python" "$work/killed.py" "$work"
