"""Two processes that make the same labels at once: each finishes them or is refused in one line; nothing is left."""

import subprocess
import sys

from support.clustered_audio import babble_store

from jepa_speech.labelling.parts import labelling
from jepa_speech.store.labels import Labels

WORK = """
import sys
from types import SimpleNamespace
import numpy as np
from jepa_speech.labelling.parts import LabelParts, join
from jepa_speech.store.store import Store
from jepa_speech.errors import UserError
from jepa_speech.features import grid

store, anchor = Store(sys.argv[1]), SimpleNamespace(fingerprint="0123456789abcdef" * 4)
n = int(grid.frames(np.asarray(store.samples, np.int64)).sum())
print("ready", flush=True)
sys.stdin.readline()
for _ in range(40):
    try:
        parts = LabelParts(store, anchor, 16, 3)
        for chunk in parts.unfinished():
            ids = np.broadcast_to(np.arange(3, dtype=np.uint16), (n, 3))
            parts.write(chunk, ids, np.full((n, 3), 80, np.uint8), np.zeros(n, np.uint8), np.ones(4))
        join(store, parts.path)
        print("done")
    except UserError as error:
        print("refused", "\\n" in str(error))
"""


def test_two_that_write_and_join_at_once(tmp_path):
    store = babble_store(tmp_path, [0.4, 0.3])
    command = [sys.executable, "-c", WORK, str(store.path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(2)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 2
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    lines = "".join(out for out, _ in said).splitlines()
    assert set(lines) <= {"done", "refused False"} and "done" in lines
    assert [error for _, error in said] == ["", ""]
    names = {path.name for path in (store.path / "labels").iterdir()}
    assert names == {"0123456789ab", ".0123456789ab.jepa-speech.lock"}
    assert Labels(store, "0123456789abcdef" * 4).top_k == 3


LABEL = """
import sys
from types import SimpleNamespace
from jepa_speech.labelling.parts import LabelParts, labelling
from jepa_speech.store.store import Store
from jepa_speech.errors import UserError

try:
    LabelParts(Store(sys.argv[1]), SimpleNamespace(fingerprint="0123456789abcdef" * 4), 16, 3, parts=int(sys.argv[2]))
except UserError as error:
    print(error)
"""


def test_a_part_beside_parts_but_nothing_beside_a_whole(tmp_path):
    store = babble_store(tmp_path, [0.3])

    def other(parts: int) -> str:
        command = [sys.executable, "-c", LABEL, str(store.path), str(parts)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with labelling(store, "0123456789abcdef" * 4, shared=True):
        assert other(2) == ""
        assert "labels: in use by process" in other(1)
    with labelling(store, "0123456789abcdef" * 4):
        assert "labels: in use by process" in other(2)
