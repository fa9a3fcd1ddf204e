"""What every objective must do, found by listing the folder: its published config, on the toy encoder."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import properties
import pytest
import toys
import training

from jepa_speech.objectives import build
from jepa_speech.objectives.build import names
from jepa_speech.objectives.contract import Term
from jepa_speech.objectives.contrastive import diversity
from jepa_speech.objectives.data2vec import Data2Vec
from jepa_speech.objectives.dinosr import DinoSR
from jepa_speech.objectives.masked import MaskedObjective
from jepa_speech.objectives.wav2vec2 import Wav2Vec2
from jepa_speech.train.step import make_step

ADAM = optax.scale_by_adam()
SECONDS = {"w2v_bert": 2.0}  # at 25 Hz a second has too few frames


def toy(name: str, change: Any = None, **sections: dict) -> properties.System:
    objective = build(toys.toy_objective(name, **sections), toys.toy_anchor())
    if change is not None:
        objective = change(objective)
    batch = toys.toy_batch(seconds=SECONDS.get(name, 1.0), anchor=toys.toy_anchor())
    if {"mix", "context"} & objective.spec:
        batch = toys.with_others(batch)
    return properties.System(objective, batch)


def twin(cls: type, **methods: Any) -> Any:
    """An objective with methods replaced by broken ones."""
    broken = type("Broken", (cls,), methods)
    return lambda whole: broken(**{f.name: getattr(whole, f.name) for f in dataclasses.fields(cls)})


def adam_step(system: properties.System) -> Any:
    return jax.jit(make_step(system.objective, ADAM, lambda _: 3e-3, lambda _: False))


@pytest.fixture(scope="module", params=names())
def system(request) -> properties.System:
    return toy(request.param)


@pytest.fixture(scope="module")
def step(system) -> Any:
    return adam_step(system)


def test_learning_and_restoring(system, step):
    training.learns(system, step)


def test_devices_and_micro_batches(system, step):
    training.split(system, step, ADAM)


def test_slow_gets_no_gradient(system):
    training.no_gradient_into_slow(system)


def test_padding(system):
    properties.padding_invariance(system)


def test_leak(system):
    if isinstance(system.objective, MaskedObjective):
        properties.leak(system)


def test_slow_twin_teaches_the_teacher():
    """Without a stop, the teacher gets a gradient."""

    def target(self, params, slow, view):
        whole = params["encoder"] | {"blocks": slow["teacher"]}
        return sum(self.system.encoder.apply(whole, view.clean, view.lengths).ff[-self.config.top_blocks :])

    with pytest.raises(AssertionError):
        training.no_gradient_into_slow(toy("data2vec", twin(Data2Vec, target=target)))


def test_learning_twin_drops_the_counts():
    """State that lives beside `slow`, as in the released DinoSR, is gone after a restore."""

    def update_slow(self, slow, params, stats, step):
        return {
            name: x for name, x in DinoSR.update_slow(self, slow, params, stats, step).items() if "counts" not in name
        }

    system = toy("dinosr", twin(DinoSR, update_slow=update_slow))
    with pytest.raises((AssertionError, ValueError, KeyError)):
        training.learns(system, adam_step(system))


def test_micro_batches_twin_measures_diversity_part_by_part():
    """The released wav2vec 2.0 takes the diversity of each device's share of the batch."""

    def loss(self, params, slow, batch, key, step):
        terms, stats = Wav2Vec2.loss(self, params, slow, batch, key, step)
        d = terms["diversity"]
        return terms | {"diversity": Term(diversity(d.total / d.weight) * d.weight, d.weight, 5.0)}, stats

    system = toy("wav2vec2", twin(Wav2Vec2, loss=loss))
    with pytest.raises(AssertionError):
        training.split(system, adam_step(system), ADAM)


def test_devices_twin_updates_codebooks_from_its_own_rows():
    """Codebooks that are not reduced over devices follow the first one's rows."""

    def update_slow(self, slow, params, stats, step):
        return DinoSR.update_slow(self, slow, params, stats | {"counts": stats["own_counts"]}, step)

    def loss(self, params, slow, batch, key, step):
        terms, stats = DinoSR.loss(self, params, slow, batch, key, step)
        own = {name: x[:1] for name, x in batch.items()}
        return terms, stats | {"own_counts": DinoSR.loss(self, params, slow, own, key, step)[1]["counts"]}

    whole, share = toy("dinosr"), toy("dinosr", twin(DinoSR, update_slow=update_slow, loss=loss))
    states = [adam_step(s)(properties.train_state(s, ADAM), s.batch)[0].slow for s in (whole, share)]
    assert jnp.abs(states[0]["code_counts"] - states[1]["code_counts"]).max() > 1e-3


@pytest.mark.parametrize("name", ["data2vec", "dinosr"])
def test_teacher_is_deterministic(name):
    """With the mask held, other keys change the student (dropout) and not one bit of the targets."""
    system = toy(name, encoder={"dropout": 0.2})
    o = system.objective

    @jax.jit
    def both(key: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
        view = o.view(system.batch, key)
        z = o.encode(system.params, view.heard, view.lengths, view.mask & False, view.keys).z
        return z, o.block_targets(system.params, system.slow, view)

    (first, one), (second, two) = both(jax.random.PRNGKey(0)), both(jax.random.PRNGKey(1))
    assert jnp.abs(first - second).max() > 1e-3
    jax.tree.map(np.testing.assert_array_equal, one, two)
