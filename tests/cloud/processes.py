"""Trains the toy in a run folder that may be in a bucket, as one process of several.

    python processes.py RUN FSDP [STEP]

It is killed when it reads the batch after STEP. The environment variable CACHES names a folder that gets
a cache for each process, as if each was on a machine of its own.
"""

import os
import signal
import sys

from training.toy import ToyObjective, toy_batches, toy_config, train

from jepa_speech.training.distributed import PROCESS, connected
from jepa_speech.training.run_in_bucket import local_run


def main(run: str, fsdp: str, step: str = "-1") -> None:
    if caches := os.environ.get("CACHES"):
        os.environ["JEPA_SPEECH_CACHE"] = f"{caches}/{os.environ[PROCESS]}"
    config = toy_config(checkpoint_every=3) | {"mesh": {"data": -1, "fsdp": int(fsdp)}}
    with connected(), local_run(run, None) as (folder, upload):
        read = toy_batches(config)

        def killed(start, stop):
            for i, batch in enumerate(read(start, stop), start):
                if i == int(step):
                    os.kill(os.getpid(), signal.SIGKILL)
                yield batch

        train(config, ToyObjective(), killed, folder, upload=upload)


if __name__ == "__main__":
    main(*sys.argv[1:])
