"""What a run writes down costs its start nothing that it does not need."""

import os
import subprocess
import sys

LOGGED = """
import sys, pathlib
from jepa_speech.train.metrics import RunLog
log = RunLog(pathlib.Path(sys.argv[1]), 0)
log.row(1, {"loss": 2.5}, plotted=True)
log.close()
assert "torch" not in sys.modules
import torch  # found again
assert torch.loaded
"""


def test_a_log_loads_no_torch(tmp_path):
    """TensorBoard's writer would, for an annotation: a second or two of each start where torch is installed."""
    (tmp_path / "torch.py").write_text("loaded = True\n", encoding="utf-8")
    (tmp_path / "run").mkdir()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    subprocess.run([sys.executable, "-c", LOGGED, str(tmp_path / "run")], env=environment, check=True)
    (written,) = (tmp_path / "run" / "tensorboard").iterdir()
    assert b"loss" in written.read_bytes()
