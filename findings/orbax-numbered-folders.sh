#!/usr/bin/env bash
# orbax-checkpoint 0.12.8 (v1 API): numbered folders that orbax did not write, among its checkpoints.
#
# One would guess that a Checkpointer counts and removes only its own checkpoints, which have a metadata file.
#
# Seen: a folder whose name is a number counts as a checkpoint, even if it holds only a text file. The highest number is the
# "latest" checkpoint, so training would continue from there. After a save, the preservation policy deletes such a folder
# with its file. The only sign is a warning at opening that a metadata file does not exist.
#
# What to do: keep no other files in a folder of checkpoints. jepa_speech refuses a run whose numbered folders hold files of
# other programs before it opens a Checkpointer.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
if python3 -c 'import sys; sys.exit(sys.version_info >= (3, 12))'; then jax=0.10.2; else jax=0.12.0.1; fi
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    "jax==$jax" "jaxlib==$jax" orbax-checkpoint==0.12.8 numpy==2.4.6

cat >"$work/folders.py" <<'PY'
import sys
from importlib.metadata import version
from pathlib import Path

import jax.numpy as jnp
from orbax.checkpoint import v1 as ocp

folder = Path(sys.argv[1]).resolve()
notes = [folder / str(number) / "notes.txt" for number in (2, 7)]
for note in notes:
    note.parent.mkdir(parents=True)
    note.write_text("nothing of orbax\n")

print("orbax-checkpoint", version("orbax-checkpoint"))
with ocp.training.Checkpointer(folder, preservation_policy=ocp.training.preservation_policies.LatestN(1)) as manager:
    print("latest checkpoint before any save:", manager.latest.step)
    assert manager.latest.step == 7, "a folder without a checkpoint no longer counts as one"
    manager.save_checkpointables(8, {"state": {"x": jnp.zeros(3)}}, force=True)
left = sorted(path.name for path in folder.iterdir())
print("after a save of step 8 with LatestN(1):", left)
assert left == ["8"] and not any(note.exists() for note in notes), "foreign folders are no longer deleted"
print("seen: two folders with a text file each were taken for checkpoints and deleted")
PY
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/folders.py" "$work/checkpoints"
