"""benchmarks/store.py in small."""

import json
import subprocess
import sys
from pathlib import Path

from support.clustered_audio import babble_store

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "store.py"


def test_a_small_store(tmp_path):
    store = babble_store(tmp_path / "babble", [1.0, 2.0, 0.5])
    size = ["--shards", "20", "--crops", "5", "--trials", "3", "--crop-seconds", "0.5"]
    subprocess.run([sys.executable, SCRIPT, "--store", store.path, *size, "--json", tmp_path / "x.json"], check=True)
    found = json.loads((tmp_path / "x.json").read_text())
    assert (found["open"]["shards"], found["open"]["records"]) == (20, 2500)
    damage = found["damage"]
    assert damage["truncations_named_at_opening"] == damage["flips_named_by_verify"] == damage["trials"] == 3
    assert damage["read_as_good"] == 0
