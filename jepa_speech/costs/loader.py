"""The speed of the loader alone, without a training that it would wait for."""

import os
import time
from contextlib import closing

from jepa_speech.batches.batch_plan import DataConfig, Plan
from jepa_speech.batches.pipeline import Batch, batches
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.memory import proportional
from jepa_speech.store.store import Store

ENDLESS = 2**40  # batches


def measure_loader(store: Store, workers: int, seconds: float) -> dict[str, float]:
    """Rates from the first batch on, for `seconds` or until the next one comes; memory is the largest that was seen.

    Memory: proportional set size of this process and the readers, 0 where the system does not report it. MB/s: the
    records' mean size for each utterance, since a record is read whole, whatever of it is decoded.
    """
    data = DataConfig(store="")
    plan = Plan(store.samples, data.buckets, data.batch_seconds, seed=0)
    record_mb = sum(store.info["shard_bytes"]) / len(store) / 1e6
    utterances = samples = memory = looks = 0
    asked = time.monotonic()
    with closing(batches(store, plan, frozenset(), 0, ENDLESS, workers=workers)) as stream:
        counts(next(stream))
        began = time.monotonic()
        while (now := time.monotonic() - began) < seconds:
            found = counts(next(stream))
            utterances, samples = utterances + found[0], samples + found[1]
            if now >= looks * seconds / 5:  # looking costs some milliseconds
                looks += 1
                memory = max(memory, proportional(os.getpid()))
        took = time.monotonic() - began
    return {
        "workers": workers,
        "first_batch_seconds": began - asked,
        "seconds": took,
        "utterances_per_second": utterances / took,
        "audio_hours_per_hour": samples / SAMPLE_RATE / took,
        "mb_per_second": utterances * record_mb / took,
        "pss_mb": memory / 1e6,
    }


def counts(batch: Batch) -> tuple[int, int]:
    """Returns the utterances of a batch and their samples.

    Nothing refers to the batch after this function. Its arrays are in shared memory, which a thread of grain frees
    after the last reference; memory that is held until the process exits is reported as leaked.
    """
    return int(batch["weight"].sum()), int(batch["lengths"] @ batch["weight"])
