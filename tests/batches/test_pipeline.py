import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import jax
import numpy as np
import psutil
import pytest
from grain._src.python.ipc.shared_memory_array import SharedMemoryArray
from support.backendless_store import BackendlessStore
from training.toy import ToyLabels, ToyStore, ToyTexts

from jepa_speech.batches.batch_plan import Plan
from jepa_speech.batches.pipeline import EXTRAS, batches
from jepa_speech.errors import UsageError
from jepa_speech.features.grid import HOP, frames

STORE = ToyStore(count=11)
PLAN = Plan(STORE.samples, (0.1, 0.2), 0.9, seed=1, rows_multiple=2)
MEANS = np.arange(22, dtype=np.float32).reshape(11, 2)
SOURCES = {"labels": ToyLabels(), "means": MEANS, "texts": ToyTexts()}


def read(start=0, stop=6, batch_fields=EXTRAS, **changes) -> list:
    return list(batches(STORE, PLAN, batch_fields, start, stop, **SOURCES | changes))


def same(a: list, b: list) -> None:
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert x.keys() == y.keys()
        for name in x:
            np.testing.assert_array_equal(x[name], y[name], err_msg=name)


def test_rows_hold_the_planned_crops():
    for item, batch in zip((PLAN[i] for i in range(6)), read(), strict=True):
        assert batch["audio"].shape == (len(item.records), item.bucket_samples)
        for row, (record, start) in enumerate(zip(item.records, item.starts, strict=True)):
            crop = STORE.read(int(record))[start : start + item.bucket_samples]
            assert batch["lengths"][row] == len(crop)
            np.testing.assert_array_equal(batch["audio"][row, : len(crop)], crop)
            assert not batch["audio"][row, len(crop) :].any()
            assert batch["level"][row] == STORE.level[record]
            assert batch["anchor_mean"][row].tolist() == MEANS[record].tolist()
            assert batch["text_lengths"][row] == record % 3 + 1 and batch["text_ids"][row, 0] == record + 2
            count = frames(len(crop))
            np.testing.assert_array_equal(
                batch["anchor_ids"][row, :count, 0], (record + start // HOP + np.arange(count)) % 50
            )
            assert not batch["anchor_probs"][row, count:].any()
            mixed = STORE.read(int(item.mix[row]))[item.mix_starts[row] :][: item.bucket_samples]
            np.testing.assert_array_equal(batch["mix"][row, : len(mixed)], mixed)
            context = STORE.read(int(record))[item.context_starts[row] :][: item.bucket_samples]
            np.testing.assert_array_equal(batch["context"][row, : len(context)], context)
            assert batch["context_lengths"][row] == len(context) == batch["lengths"][row]


def test_going_on_in_the_middle_gives_the_same_batches():
    same(read(2, 6), read(0, 6)[2:])
    assert len(read(10**9, 10**9 + 2)) == 2


def test_processes_share_the_rows_of_the_same_batch():
    parts = [read(process_index=p, process_count=2) for p in (0, 1)]
    joined = [{k: np.concatenate([a[k], b[k]]) for k in a} for a, b in zip(*parts, strict=True)]
    same(joined, read())


def test_worker_processes_change_nothing():
    found = list(batches(STORE, PLAN, frozenset({"mix"}), 0, 5, workers=2))
    assert all(isinstance(batch[name], SharedMemoryArray) for batch in found for name in ("audio", "mix"))
    same(found, read(0, 5, frozenset({"mix"})))


def test_a_stream_that_is_closed_has_freed_what_its_workers_shared(monkeypatch):
    """Else Python warns of leaked memory when the process exits. The thread that frees it is slow here."""
    freed, free = [], SharedMemoryArray.close_shm_async

    def slowly(*args, **options):
        time.sleep(0.4)
        free(*args, **options)
        freed.append(args)

    monkeypatch.setattr(SharedMemoryArray, "close_shm_async", slowly)
    with closing(batches(STORE, PLAN, frozenset(), 0, 3, workers=1)) as stream:
        arrays = len([x for x in next(stream).values() if isinstance(x, SharedMemoryArray)])
    assert len(freed) >= arrays > 4


def test_workers_never_initialise_a_jax_backend():
    """It would take the accelerator from the training process, or its memory."""
    store = BackendlessStore(count=5)
    plan = Plan(store.samples, (0.1,), 0.2, seed=0)
    assert len(list(batches(store, plan, frozenset(), 0, 4, workers=2))) == 4
    jax.devices()  # here is a backend, and the store would notice
    with pytest.raises(AssertionError, match="backend"):
        list(batches(store, plan, frozenset(), 0, 4))


def test_the_rows_of_a_record_in_an_epoch_have_ids_of_their_own():
    """Masks and dropout are keyed by (record_id, epoch)."""
    plan = Plan(STORE.samples, (0.1, 0.2), 0.9, seed=1, shares=[(11, 2.0)])
    read = list(batches(STORE, plan, frozenset(), 0, plan.batches_per_epoch))
    ids = np.concatenate([b["record_id"][b["weight"] > 0] for b in read])
    assert np.array_equal(np.sort(ids), np.arange(22))


def test_no_more_shapes_than_buckets():
    """A shape is a compilation."""
    plan = Plan(STORE.samples, (0.05, 0.1, 0.2), 0.9, seed=1, rows_multiple=2)
    shapes = {b["audio"].shape for b in batches(STORE, plan, frozenset(), 0, 3 * plan.batches_per_epoch)}
    assert len(shapes) <= 3 and {s for _, s in shapes} <= set(plan.bucket_samples.tolist())


def test_a_lone_record_is_mixed_with_silence():
    store = ToyStore(count=1)
    batch = next(batches(store, Plan(store.samples, (0.2,), 0.2, seed=0), frozenset({"mix"}), 0, 1))
    assert not batch["mix"].any() and batch["mix_lengths"].tolist() == [0] and batch["mix_level"].tolist() == [1]


def test_an_extra_that_nobody_delivers_is_refused():
    with pytest.raises(UsageError, match="prosody"):
        read(batch_fields=frozenset({"prosody"}))
    with pytest.raises(UsageError, match="anchor"):
        read(batch_fields=frozenset({"anchor"}), labels=None)
    with pytest.raises(UsageError, match="text"):
        read(batch_fields=frozenset({"text"}), texts=None)


ENDS = """
import gc
from collections import deque
from contextlib import closing
from test_pipeline import EXTRAS, PLAN, SOURCES, batches
from training.toy import ToyStore

from jepa_speech.batches import pipeline

class Damaged(ToyStore):
    def read(self, i, start=0, samples=None):
        if i == 7:
            raise RuntimeError("record 7 is damaged")
        return super().read(i, start, samples)

if __name__ == "__main__":
    with closing(batches(ToyStore(count=11), PLAN, EXTRAS, 0, 10**6, workers=2, **SOURCES)) as stream:
        next(stream)
    with closing(batches(Damaged(count=11), PLAN, EXTRAS, 0, 10**6, workers=1, **SOURCES)) as stream:
        try:
            deque(stream, maxlen=0)
        except RuntimeError as error:
            print(error)
    gc.collect()  # the traceback holds the batch before
    pipeline._wait_until_freed()
"""


def test_no_shared_memory_is_left_of_unread_batches_and_of_one_that_failed(tmp_path):
    """Python would warn of it when the process exits."""
    (tmp_path / "run.py").write_text(ENDS)
    here = Path(__file__).parent
    paths = os.pathsep.join(map(str, (here.parents[1], here.parent, here)))
    command = [sys.executable, str(tmp_path / "run.py")]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True)
    assert done.returncode == 0 and "record 7 is damaged" in done.stdout, done.stderr
    assert "leaked" not in done.stderr


READS = """
import time
from test_pipeline import PLAN, STORE, batches

if __name__ == "__main__":
    stream = batches(STORE, PLAN, frozenset(), 0, 10**6, workers=2)
    next(stream)
    print("reading", flush=True)
    time.sleep(600)
"""


def test_workers_die_with_a_killed_parent(tmp_path):
    """A kill -9 would otherwise leave them behind, with their memory and a core each."""
    (tmp_path / "run.py").write_text(READS)
    here = Path(__file__).parent
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "run.py")],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (here.parents[1], here.parent, here)))},
    )
    try:
        assert parent.stdout.readline() == b"reading\n"
        workers = [p for p in psutil.Process(parent.pid).children() if "spawn_main" in " ".join(p.cmdline())]
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    assert len(workers) == 2
    _, alive = psutil.wait_procs(workers, timeout=30)
    alive = [worker for worker in alive if worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE]
    for worker in alive:
        worker.kill()
    assert not alive
