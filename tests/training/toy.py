"""The smallest things that train: a store in memory and an objective that learns to predict loudness."""

import hashlib
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_speech.batches.batch_plan import Plan
from jepa_speech.batches.pipeline import batches
from jepa_speech.errors import UserError
from jepa_speech.objective_parts.contract import Term
from jepa_speech.objectives import parsed
from jepa_speech.training import loop
from jepa_speech.training.distributed import connected


class ToyStore:
    """Seeded noise, made when asked for; each record's level differs."""

    def __init__(self, count: int = 13, shortest: int = 500, longest: int = 4000, seed: int = 0) -> None:
        self.samples = np.random.default_rng(seed).integers(shortest, longest, count)
        self.level = np.linspace(0.1, 1.0, count).astype(np.float32)
        self.fingerprint = f"toy-{count}-{seed}"

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, i: int, start: int = 0, samples: int | None = None) -> np.ndarray:
        whole = np.random.default_rng((7, i)).standard_normal(self.samples[i]) * self.level[i]
        return whole[start:][:samples].astype(np.float32)


class ToyLabels:
    """Frame t of record i has the label (i + t) % 50, and i + t + 1 after it."""

    def slice(self, i: int, first_frame: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
        ids = (i + first_frame + np.arange(frames)[:, None] + np.arange(2)) % 50
        return ids.astype(np.uint16), np.full((frames, 2), 0.5, np.float32)


class ToyTexts:
    """Record i is transcribed as i + 2, i % 3 + 1 times."""

    def text_ids(self, records: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray]:
        lengths = (records % 3 + 1).astype(np.int32)
        return ((records + 2)[:, None] * (np.arange(3) < lengths[:, None])).astype(np.int32), lengths


@dataclass(frozen=True)
class ToyObjective:
    """Predicts each row's level from masked statistics, with noise per record, and an EMA of its weights."""

    width: int = 8
    batch_fields: frozenset[str] = frozenset({"mix"})

    def init(self, key):
        kernel = jax.random.normal(key, (2, self.width)) * 0.3
        params = {"in": {"kernel": kernel, "bias": jnp.zeros(self.width)}, "out": {"kernel": jnp.ones(self.width)}}
        return params, {"teacher": params, "seen": jnp.zeros(())}

    def loss(self, params, aux_state, batch, key, step):
        valid = jnp.arange(batch["audio"].shape[1]) < batch["lengths"][:, None]  # (B, S)
        power = jnp.sum(jnp.where(valid, batch["audio"], 0) ** 2, 1) / batch["lengths"]
        other = jnp.mean(batch["mix"] ** 2, 1)

        def noise(record, epoch):
            return jax.random.normal(jax.random.fold_in(jax.random.fold_in(key, record), epoch), ())

        power = power + 0.01 * jax.vmap(noise)(batch["record_id"], batch["epoch"])
        hidden = jnp.tanh(jnp.stack([power, other], 1) @ params["in"]["kernel"] + params["in"]["bias"])  # (B, D)
        error = (hidden @ params["out"]["kernel"] - batch["level"]) ** 2  # (B,)
        weight = batch["weight"] * batch["lengths"]
        decay = 1.0 / (1.0 + step)
        terms = {
            "level": Term(jnp.sum(weight * error), jnp.sum(weight), jnp.float32(1.0)),
            "size": Term(jnp.sum(batch["weight"] * (hidden**2).mean(1)), jnp.sum(batch["weight"]), 0.1 * decay),
        }
        return terms, {"rows": jnp.sum(batch["weight"]), "sum": jnp.sum(batch["weight"][:, None] * hidden, 0)}

    def update_aux_state(self, aux_state, params, stats, step):
        teacher = jax.tree.map(lambda t, p: 0.9 * t + 0.1 * p, aux_state["teacher"], params)
        return {"teacher": teacher, "seen": aux_state["seen"] + stats["rows"]}

    def rates(self, step):
        return {}

    def report(self, stats):
        return {"hidden_mean": jnp.mean(stats["sum"] / stats["rows"])}


@dataclass(frozen=True)
class Blocked(ToyObjective):
    """Sends SIGTERM to its own process within the device's work of one step, which then never ends."""

    at: int = -1

    def loss(self, params, aux_state, batch, key, step):
        def block(number):
            if number == self.at:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(HANG)

        jax.debug.callback(block, step)
        return super().loss(params, aux_state, batch, key, step)


HANG = 90  # seconds: long after any limit of a test, and no more, so that a test of a run that stays hung ends, too


def toy_config(**train) -> dict:
    """A whole config: `train` keys may be given."""
    defaults = {"steps": 12, "checkpoint_every": 4, "keep": 2, "report_every": 3, "accumulate": 1, "max_skipped": 3}
    return {
        "seed": 1,
        "init_from": "",
        "data": {"store": "", "batch_seconds": 0.6, "buckets": (0.1, 0.3), "workers": 0},
        "optim": {"learning_rate": 0.01, "warmup_steps": 2, "weight_decay": 0.1},
        "train": defaults | train,
        "mesh": {"data": -1, "fsdp": 1},
    }


# Sections of a whole config that the toy does not read.
UNREAD = {"encoder": {"name": "conformer"}, "objective": {"name": "gmm_jepa"}, "mask": {}, "mixing": {}}


def train(config: dict, *arguments: Any, **options: Any) -> dict[str, Any]:
    """`loop.train` by a config of `toy_config`, with its lines on stderr."""
    return loop.train(parsed(config | UNREAD), *arguments, **{"progress": True} | options)


def toy_batches(config: dict, rows_multiple: int = 4):
    """batches(start, stop) of the toy store under `config`."""
    store = ToyStore()
    data = config["data"]
    plan = Plan(store.samples, data["buckets"], data["batch_seconds"], config["seed"], rows_multiple)

    def read(start, stop):
        mine = {"process_index": jax.process_index(), "process_count": jax.process_count()}
        return batches(store, plan, ToyObjective.batch_fields, start, stop, **mine)

    return read


def main(workdir: str, kill_before: int = -1, *what: str) -> None:
    """Trains the toy. When batch `kill_before` is asked for, it sends itself the signals in `what`, hangs (HANG), gets
    SIGTERM within one long call (SPIN), or finds the batch not finite (NAN); of several processes the last one does.
    BLOCK: see `Blocked`.

    what may also hold key=value: whole numbers for the section train.
    """
    signals = [name for name in what if "=" not in name]
    changes = [name.split("=") for name in what if "=" in name]
    config = toy_config(**{key: int(value) for key, value in changes})
    inner = toy_batches(config)

    def treacherous(start, stop):
        for i, batch in enumerate(inner(start, stop), start):
            if i == kill_before and jax.process_index() == jax.process_count() - 1:
                for name in signals:
                    if name == "HANG":
                        time.sleep(HANG)
                    elif name == "SPIN":
                        threading.Timer(1, os.kill, (os.getpid(), signal.SIGTERM)).start()
                        hashlib.pbkdf2_hmac("sha256", b"", b"", 200_000_000)
                    elif name == "NAN":
                        batch["audio"] = np.full_like(batch["audio"], np.nan)
                    elif name != "BLOCK":
                        signal.raise_signal(signal.Signals[name])
            yield batch

    try:
        with connected():
            objective = Blocked(at=kill_before) if "BLOCK" in what else ToyObjective()
            train(config, objective, treacherous, workdir)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main(sys.argv[1], *(int(a) for a in sys.argv[2:3]), *sys.argv[3:])
