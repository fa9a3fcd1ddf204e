"""Fine-tuning: which parts learn when, rows of weight 0, and masking."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from support import properties, toys, training
from support.toys import build

from jepa_speech.errors import UsageError
from jepa_speech.nn.build_encoder import standardise
from jepa_speech.nn.row_random import row_keys
from jepa_speech.objective_parts.contract import Term
from jepa_speech.text.errors import character_errors
from jepa_speech.text.vocabulary import FIRST

FRAMES = 28  # of 1.2 s at 25 Hz


@pytest.fixture(scope="module")
def system() -> properties.System:
    """On the cheapest front-end that has parameters, with room for texts as long as its frames."""
    encoder = {"frontend": "subsampled", "channels": 2}
    o = build(toys.toy_objective("ctc", encoder=encoder, objective={"freeze_steps": 2}))
    batch = toys.with_text(toys.toy_batch(4, 1.2))
    # As `emissions` sees them.
    batch |= {"audio": standardise(batch["audio"], batch["lengths"]), "level": jnp.ones(4)}
    return properties.System(o, batch | {"text_ids": jnp.pad(batch["text_ids"], ((0, 0), (0, FRAMES - 6)))})


@pytest.fixture(scope="module")
def loss(system) -> Callable[..., dict[str, Term]]:
    jitted = jax.jit(system.objective.loss)
    return lambda **changes: jitted(system.params, {}, system.batch | changes, properties.KEY, 0)[0]


def test_the_head_learns_first_then_the_encoder_and_never_the_frontend(system):
    step, state = training.one_step(system.objective), properties.train_state(system, training.ADAMW)
    for number in range(4):
        before, (state, _) = state.params, step(state, system.batch)
        moved = {
            jax.tree_util.keystr(path, simple=True, separator="/"): bool(np.any(a != b))
            for (path, a), b in zip(
                jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(state.params), strict=True
            )
        }
        assert moved["head/kernel"]
        assert moved["encoder/projection/kernel"] == (number >= 2)
        assert not any(moved[name] for name in moved if name.startswith("encoder/frontend/"))
    assert any(name.startswith("encoder/frontend/") for name in moved)


BERT = {"name": "wav2vec2_bert", "width": 12, "heads": 2, "hidden": 16, "kernel": 3, "blocks": 1}


def with_adapter(encoder: dict | None = None, **keys: int) -> Any:
    config = toys.toy_objective("ctc", objective={"adapter_layers": 1, "channel_span": 4} | keys)
    config.encoder = ConfigDict(BERT | (encoder or {}))
    return build(config)


def test_an_adapter_learns_from_the_first_step_with_the_head():
    o, batch = with_adapter(freeze_steps=1), toys.with_text(toys.toy_batch(2, 0.5))
    step = jnp.asarray(0)
    loss = jax.jit(jax.grad(lambda p: o.loss(p, {}, batch, properties.KEY, step)[0]["ctc"].total))
    learns = jax.tree.map(lambda x: bool(np.any(x)), loss(o.init(properties.KEY)[0]))
    assert learns["head"]["kernel"] and not any(jax.tree.leaves(learns["encoder"]))
    assert learns["adapter"]["layers"][0]["residual"]["convolution"]["kernel"]
    assert not any(name.startswith("adapter") for name in o.rates(step))


def test_an_adapter_of_two_layers_makes_a_quarter_of_the_frames():
    """And counts them: a text longer than them has no path."""
    o, batch = with_adapter(adapter_layers=2), toys.with_text(toys.toy_batch(4, 1.2))
    params = {"adapter": o.adapter.init(properties.KEY), "head": o.head.init(properties.KEY)}
    frame_lengths = jnp.array([59, 57, 5, 1])
    logits, lengths = jax.jit(o.logits)(params, jnp.zeros((4, 59, 12)), frame_lengths)
    assert logits.shape[1] == 15 and lengths.tolist() == [15, 15, 2, 1]
    assert o.emission_rate == 12.5 and o.frame_rate == 50
    batch |= {"text_ids": FIRST + jnp.arange(4 * 16).reshape(4, 16) % 2, "text_lengths": jnp.array([15, 16, 2, 2])}
    assert o.terms(logits, lengths, batch)["infeasible"].total == 2


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"adapter_layers": -1}, "objective.adapter_layers = -1: expected 0 to 1,000"),
        ({"adapter_kernel": 5}, "objective.adapter_kernel = 5, adapter_stride = 2: expected a stride of 1 to 100, and"),
        ({"adapter_layers": 7}, r"adapter_layers = 7, adapter_stride = 2: one frame would cover 2\^7"),
        ({"encoder": {"name": "wav2vec2_conformer"}}, "encoder.name = wav2vec2_conformer has no adapter, set it to 0"),
    ],
)
def test_an_adapter_that_does_not_fit_is_one_line(keys, told):
    with pytest.raises(UsageError, match=told):
        with_adapter(**keys)


def test_a_text_without_a_path_weighs_nothing_and_is_counted(system, loss):
    ids, lengths = (system.batch[name].at[1].set(x) for name, x in (("text_ids", FIRST), ("text_lengths", FRAMES)))
    terms = loss(text_ids=ids, text_lengths=lengths)
    assert (terms["infeasible"].total, terms["infeasible"].weight) == (1, 4)
    assert terms["ctc"].weight == 3 and loss()["ctc"].weight == 4
    without = loss(weight=jnp.ones(4).at[1].set(0))
    np.testing.assert_allclose(terms["ctc"].total, without["ctc"].total, rtol=1e-6)


def test_held_out_recordings_are_judged_with_nothing_hidden(system, loss):
    o, batch = system.objective, system.batch
    judge = jax.jit(o.eval_loss)
    first, second = (judge(system.params, {}, batch, jax.random.PRNGKey(seed), 0)[0] for seed in (0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert loss()["ctc"].total != first["ctc"].total
    # Its error rate is the one of what `transcribe` would write.
    (log_p,), frame_lengths = jax.jit(o.emissions)(system.params, {}, batch["audio"], batch["lengths"])
    paths = [np.asarray(row)[:count].argmax(-1) for row, count in zip(log_p, frame_lengths, strict=True)]
    texts = [
        "".join(o.vocabulary.tokens[i] for i in np.asarray(ids)[:n])
        for ids, n in zip(batch["text_ids"], batch["text_lengths"], strict=True)
    ]
    counts = [character_errors(text, o.vocabulary.text_of(path)) for text, path in zip(texts, paths, strict=True)]
    assert [first["cer"].total, first["cer"].weight] == np.sum(counts, axis=0).tolist()


def test_channels_are_hidden_in_spans(system):
    keys = row_keys(properties.KEY, jnp.arange(64), jnp.zeros(64, int))
    o = dataclasses.replace(system.objective, config=dataclasses.replace(system.objective.config, channel_span=4))
    hidden = np.asarray(o.draw_channel_mask(keys))
    assert hidden.shape == (64, 16) and (hidden.sum(1) >= 4).all() and (hidden.sum(1) <= 8).all()
    assert 0.25 <= hidden.mean() < 0.4 and len({tuple(row) for row in hidden}) > 5
    none = dataclasses.replace(o, config=dataclasses.replace(o.config, channel_probability=0.0))
    assert none.draw_channel_mask(keys) is None


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("mask", {"site": "pre_predictor"}, "CTC has no predictor, set pre_context"),
        ("objective", {"channel_span": 16}, "expected one in [0, 1), and 1 to 15"),
    ],
)
def test_what_cannot_be(section, change, message):
    with pytest.raises(UsageError, match="config key") as error:
        build(toys.toy_objective("ctc", **{section: change}))
    assert message in str(error.value)
