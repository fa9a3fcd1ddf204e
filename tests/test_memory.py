import os
import subprocess
import sys

import pytest

from jepa_speech.memory import anonymous, family, proportional

HOLD = "import sys; x = bytearray(100_000_000); print(flush=True); sys.stdin.read()"
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")


@linux
def test_a_child_is_family_and_its_memory_counts():
    before = proportional(os.getpid())
    with subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        assert family(os.getpid())[0] == os.getpid() and child.pid in family(os.getpid())
        assert 100e6 < anonymous(child.pid) < 130e6
        assert 100e6 < proportional(child.pid) < 130e6
        assert proportional(os.getpid()) - before > 90e6
        child.stdin.close()
    assert child.pid not in family(os.getpid())
    assert anonymous(child.pid) == proportional(child.pid) == 0
