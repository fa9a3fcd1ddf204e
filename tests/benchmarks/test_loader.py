"""benchmarks/loader.py in small: everybody reads, and the table says what was measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.clustered_audio import babble_store

from jepa_speech.store.prepare import prepare

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "loader.py"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="cores are chosen by sched_setaffinity")
def test_a_race_against_libsndfile(tmp_path):
    babble_store(tmp_path, [0.5] * 4)
    prepare([tmp_path / "audio"], tmp_path / "flac", "flac", workers=1)
    stores = ["--flac", tmp_path / "flac", "--pcm16", tmp_path / "store"]
    report, table = tmp_path / "loader.json", tmp_path / "loader.md"
    size = ["--turns", "1", "--seconds", "0.2", "--others"]
    subprocess.run([sys.executable, SCRIPT, *stores, *size, "--json", report, "--table", table], check=True)
    found = json.loads(report.read_text())
    assert len(found["audio_seconds_per_second"]) == 8 and len(found["ratios"]) == 6
    for rates in ("audio_seconds_per_second", "audio_seconds_per_core_second"):
        assert all(rate > 0 for values in found[rates].values() for rate in values)
    shown = table.read_text()
    assert all(f"| {name} |" in shown for name in (*found["audio_seconds_per_second"], *found["ratios"]))
    assert f"libsndfile {found['libsndfile']}" in shown


def test_parts_of_the_loader(tmp_path):
    babble_store(tmp_path, [0.5] * 4)
    prepare([tmp_path / "audio"], tmp_path / "flac", "flac", workers=1)
    report = tmp_path / "parts.json"
    size = ["--batches", "2", "--turns", "1", "--json", report]
    script = SCRIPT.with_name("loader_parts.py")
    subprocess.run([sys.executable, script, "--flac", tmp_path / "flac", *size], check=True)
    found = json.loads(report.read_text())
    assert found["audio_seconds"] > 0 and len(found["us_per_audio_second"]) == 7
