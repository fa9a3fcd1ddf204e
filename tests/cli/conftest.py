"""Fixtures of the tests of verbs."""

import json
import os
import shlex
import sys
from pathlib import Path

import pytest


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """stand_in(NAME, BODY): a bash program on PATH that adds its arguments, as one JSON line, to what it returns."""
    folder, said = tmp_path / "bin", tmp_path / "said"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    for name in list(os.environ):
        if name.startswith(("JEPA_SPEECH_", "JAX_LOCAL")) or name in (
            "PROCESSES",
            "DRY_RUN",
            "SPOT",
            "QUEUED",
            "MOUNT",
            "SSH_FLAGS",
            "PUBLIC",
        ):
            monkeypatch.delenv(name)
    note = f"import json, sys; open({str(said)!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')"

    def make(name, body=""):
        program = folder / name
        program.write_text(f'#!/bin/bash\n{shlex.quote(sys.executable)} -S -c {shlex.quote(note)} "$0" "$@"\n{body}\n')
        program.chmod(0o755)
        return lambda: [[Path(a).name, *b] for a, *b in map(json.loads, said.read_text().splitlines())]

    return make
