"""The ledger of ids: over epochs with kills and a changing number of workers and hosts, nothing is lost or doubled."""

from collections import Counter
from collections.abc import Callable

import numpy as np
from training.toy import ToyStore

from jepa_speech.batches.batch_plan import Plan
from jepa_speech.batches.pipeline import batches

EPOCHS, SEED = 3, 5
STORE = ToyStore(count=61, shortest=500, longest=9000)

PlanOf = Callable[[int, int], Plan]  # (process_index, process_count) -> the plan of that host


def plan_of(host: int, hosts: int) -> Plan:
    return Plan(STORE.samples, (0.1, 0.25, 0.4), 1.0, SEED, rows_multiple=hosts)


def own_shuffle(host: int, hosts: int) -> Plan:
    """Broken: every host shuffles independently."""
    return Plan(STORE.samples, (0.1, 0.25, 0.4), 1.0, SEED + host, rows_multiple=hosts)


def ledger(plan_of: PlanOf, lives: list[tuple[int, int]], late: int = 0) -> Counter:
    """How often each (epoch, record) was trained on, by its weight.

    Each life is (hosts, workers): it resumes at the saved step, saves every 4 steps, and is killed at a random one,
    so that what came after the last save happens again. The last life ends with the last epoch. `late` breaks it.
    """
    random = np.random.default_rng(0)
    trained: Counter = Counter()
    saved, end = 0, EPOCHS * plan_of(0, 1).batches_per_epoch
    for number, (hosts, workers) in enumerate(lives):
        last = number == len(lives) - 1
        dies = end if last else saved + int(random.integers(5, 2 * end // len(lives)))
        streams = [
            batches(STORE, plan_of(host, hosts), frozenset(), saved, end, host, hosts, workers) for host in range(hosts)
        ]
        unsaved: Counter = Counter()
        for step in range(saved, min(dies, end)):
            for stream in streams:
                batch = next(stream)
                rows = zip(batch["epoch"].tolist(), batch["record_id"].tolist(), batch["weight"].tolist(), strict=True)
                for epoch, record, weight in rows:
                    unsaved[epoch, record] += weight
            if (step + 1) % 4 == 0 or step + 1 == end:
                trained.update(unsaved)
                unsaved.clear()
                saved = step + 1 + late
        for stream in streams:
            stream.close()
    assert saved >= end
    return trained


def whole(trained: Counter) -> bool:
    rows = Counter({key: weight for key, weight in trained.items() if weight})
    return rows == Counter({(epoch, record): 1 for epoch in range(EPOCHS) for record in range(len(STORE))})


LIVES = [(1, 0), (2, 0), (4, 0), (1, 0), (2, 0), (1, 0), (4, 0), (2, 0)]


def test_every_record_once_per_epoch_whatever_happens_to_hosts():
    assert whole(ledger(plan_of, LIVES))


def test_every_record_once_per_epoch_whatever_happens_to_workers():
    assert whole(ledger(plan_of, [(2, 0), (1, 2), (1, 1), (4, 0)]))


def test_the_ledger_sees_hosts_that_shuffle_for_themselves():
    assert not whole(ledger(own_shuffle, LIVES))


def test_the_ledger_sees_a_resume_one_batch_late():
    assert not whole(ledger(plan_of, LIVES, late=1))
