"""benchmarks/buckets.py in small, without the peers that it installs: what it times, counts and writes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.audio_files import write_tones

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "buckets.py"


@pytest.mark.slow  # nine processes, most of which import all of the loader
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="cores are chosen by sched_setaffinity")
def test_a_run_without_peers(tmp_path):
    write_tones(tmp_path / "audio", 6, seconds=0.5)
    files = ["--json", tmp_path / "buckets.json", "--table", tmp_path / "buckets.md"]
    where = ["--data", tmp_path / "audio", "--work", tmp_path / "work"]
    subprocess.run([sys.executable, SCRIPT, *where, "--turns", "1", "--peers", *files], check=True)
    found = json.loads((tmp_path / "buckets.json").read_text())
    rows = {row["what"]: row for row in found["rows"]}
    epochs = [f"an epoch from {scheme}://, {cache} cache" for scheme in ("s3", "gs") for cache in ("cold", "warm")]
    counted = "bytes fetched in a cold epoch, this program"
    assert [*rows] == [*epochs, counted] == [row[0] for row in found["table"][1:]]
    assert all(rate > 0 for name in epochs for rate in (*rows[name]["ours"], *rows[name]["theirs"]))
    (fetched,), (needed,) = rows[counted]["ours"], rows[counted]["theirs"]
    assert found["shard_bytes"] <= 1e6 * fetched < found["shard_bytes"] + 30_000 and 0 < needed < fetched
    assert f"| {counted} |" in (tmp_path / "buckets.md").read_text()
