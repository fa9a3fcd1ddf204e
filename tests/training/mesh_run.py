"""Trains toys of objectives for a few steps, by the loop, on the devices and processes that this one is told of.

    python mesh_run.py FOLDER DATA FSDP NAME ...

Leaves FOLDER/NAME as a run's folder.
"""

import dataclasses
import sys
from pathlib import Path

import jax
from support import toys
from support.toys import build

from jepa_speech.training.distributed import connected
from jepa_speech.training.loop import train


def main(folder: str, data: str, fsdp: str, *names: str) -> None:
    with connected():
        # It computes with jax when imported, which several processes may do only once connected.
        from support import training

        rows = training.ROWS // jax.process_count()
        mine = slice(jax.process_index() * rows, (jax.process_index() + 1) * rows)
        for name in names:
            config = toys.toy_objective(name)
            objective = build(config, toys.toy_anchor())  # first: its schedules are those of a longer run
            config.seed = 0
            config.train.update(steps=training.STEPS, checkpoint_every=training.STEPS)
            config.optim.update(dataclasses.asdict(training.OPTIM))
            config.mesh.update(data=int(data), fsdp=int(fsdp))
            made = [{key: x[mine] for key, x in batch.items()} for batch in training.toy_batches(name, objective)]
            with connected():  # as each of several trainings of one program does
                train(
                    toys.typed(config),
                    objective,
                    lambda start, stop, made=made: (b for b in made[start:stop]),
                    Path(folder) / name,
                )


if __name__ == "__main__":
    main(*sys.argv[1:])
