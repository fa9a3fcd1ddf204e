"""One pass over the same frames: by one process or four, and in any order of the recordings."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from anchors.test_em import blobs, start

from jepa_speech.anchors import em, lloyd

PROCESSES = 4
WORKER = """
import sys
import jax
rank, port, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.distributed.initialize(f"localhost:{port}", %d, rank)
import numpy as np
from jepa_speech.anchors import em, lloyd
chunks = [np.load(f"{out}/chunk{i}.npy") for i in range(7)]
parameters = em.Parameters(*np.load(f"{out}/parameters.npz").values())
sums = em.expectation(parameters, chunks)
near = lloyd.nearest_sums(parameters.means, chunks[:2])  # fewer chunks than processes
np.savez(f"{out}/{rank}.npz", counts=sums.counts, first=sums.first, second=sums.second,
         likelihood=sums.log_likelihood, near=near.first)
"""


def chunks():
    """Recordings of unequal length."""
    return np.split(blobs(count=3_000, dim=7), [400, 650, 1_500, 1_510, 2_200, 2_900])


def parameters():
    return start(blobs(count=3_000, dim=7), 6)


def check_same(sums, other):
    """To 1e-5 of each sum; of first moments, which may cancel, of the most they can be (Cauchy-Schwarz)."""
    np.testing.assert_allclose(other["counts"], sums.counts, rtol=1e-5)
    np.testing.assert_allclose(other["second"], sums.second, rtol=1e-5)
    assert float(other["likelihood"]) == pytest.approx(sums.log_likelihood, rel=1e-5)
    most = np.sqrt(sums.counts[:, None] * sums.second)
    assert np.abs((other["first"] - sums.first) / most).max() < 1e-5


def as_dict(sums):
    return {"counts": sums.counts, "first": sums.first, "second": sums.second, "likelihood": sums.log_likelihood}


def test_the_order_of_recordings_does_not_matter():
    sums = em.expectation(parameters(), chunks())
    check_same(sums, as_dict(em.expectation(parameters(), chunks()[::-1])))
    check_same(sums, as_dict(em.expectation(parameters(), [np.concatenate(chunks())])))
    with pytest.raises(AssertionError):
        check_same(sums, as_dict(em.expectation(parameters(), chunks()[1:])))  # one forgotten
    steps = [em.maximisation(em.expectation(parameters(), order)) for order in (chunks(), chunks()[::-1])]
    np.testing.assert_allclose(steps[0].variances, steps[1].variances, rtol=1e-5)


def test_four_processes_find_what_one_finds(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    for i, chunk in enumerate(chunks()):
        np.save(tmp_path / f"chunk{i}.npy", chunk)
    np.savez(tmp_path / "parameters.npz", **vars(parameters()))
    environment = os.environ | {"XLA_FLAGS": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WORKER % PROCESSES]
    running = [
        subprocess.Popen([*command, str(rank), port, str(tmp_path)], env=environment, stderr=subprocess.PIPE, text=True)
        for rank in range(PROCESSES)
    ]
    for process in running:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
    found = [dict(np.load(tmp_path / f"{rank}.npz")) for rank in range(PROCESSES)]
    check_same(em.expectation(parameters(), chunks()), found[0])
    for other in found[1:]:  # to the last bit
        assert all(np.array_equal(found[0][name], other[name]) for name in other)
    alone = lloyd.nearest_sums(parameters().means, chunks()[:2])
    np.testing.assert_allclose(found[0]["near"], alone.first, rtol=1e-4, atol=1e-4)
