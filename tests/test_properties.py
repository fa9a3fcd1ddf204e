"""Each property holds for the system, and a broken twin, named after the defect, is shown to fail it.

The defects are those of released code (P1, P3, ...) or of code that people write.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import properties, toys
from support.toys import build
from training import toy

from jepa_speech.anchors.sparse import kl_to_sparse, top_k
from jepa_speech.features.spectral import log_mel
from jepa_speech.nn import blocks
from jepa_speech.nn.frontends import ConvFrontend, LogMelFrontend
from jepa_speech.nn.module import Pure
from jepa_speech.objective_parts.collapse import collapsed
from jepa_speech.objectives.gmm_jepa import GmmJepa
from jepa_speech.training.step import total_loss


def config(frontend: str = "logmel", name: str = "transformer", encoder: Any = None, **sections: dict) -> Any:
    """A toy config of one block: none of the properties needs more, and each takes time to compile."""
    return toys.toy_config(frontend, name, encoder={"blocks": 1} | (encoder or {}), **sections)


@pytest.fixture(scope="module")
def simple() -> properties.System:
    """For properties that do not depend on the encoder."""
    return properties.toy_system(config())


@pytest.fixture(scope="module", params=["logmel-transformer", "conv-conformer"])
def system(request, simple) -> properties.System:
    if request.param == "logmel-transformer":
        return simple
    return properties.toy_system(config("conv", "conformer"))


def twin(**methods: Any) -> Any:
    """build() of an objective with methods replaced by broken ones."""
    broken = type("Broken", (GmmJepa,), methods)

    def make(sections: Any, anchor: Any) -> Any:
        whole = build(sections, anchor)
        return broken(**{field.name: getattr(whole, field.name) for field in dataclasses.fields(GmmJepa)})

    return make


def fails(check: Any, *args: Any) -> None:
    with pytest.raises(AssertionError):
        check(*args)


def test_1_leak(system):
    properties.leak(system)


def test_1_leak_twin_masks_after_the_encoder():
    """P1: the released code masks only what the predictor sees."""
    fails(properties.leak, properties.toy_system(config(mask={"site": "pre_predictor"})))


def test_2_padding(system):
    properties.padding_invariance(system)


def test_2_padding_twin_attends_to_padding(monkeypatch, simple):
    """P16: no key-padding mask in attention."""
    monkeypatch.setattr("jepa_speech.nn.encoder.valid", lambda lengths, size: jnp.ones((len(lengths), size), bool))
    fails(properties.padding_invariance, properties.toy_system(config(), like=simple))


def test_2_padding_twin_convolves_padding(monkeypatch):
    """P16: padded frames are not zeroed before the depthwise convolution."""
    original = blocks.ConvModule.__call__
    monkeypatch.setattr(blocks.ConvModule, "__call__", lambda self, x, valid: original(self, x, jnp.ones_like(valid)))
    fails(properties.padding_invariance, properties.toy_system(config("logmel", "conformer")))


def test_3_target_is_deterministic(simple):
    properties.deterministic_target(properties.toy_system(config(encoder={"dropout": 0.2}), like=simple))


def test_3_target_twin_teaches_with_dropout(simple):
    """P4: the released teacher is never put into evaluation mode."""

    def loss(self, params, aux_state, batch, key, step):
        return GmmJepa.loss(self, params, aux_state | {"key": key}, batch, key, step)

    def target(self, aux_state, clean, lengths):
        rows = jax.random.split(aux_state["key"], len(lengths))
        return self.encoder.apply(aux_state["teacher"], clean, lengths, None, rows).z

    noisy = properties.toy_system(config(encoder={"dropout": 0.2}), twin(loss=loss, target=target), like=simple)
    fails(properties.deterministic_target, noisy)


def test_4_predictor_uses_time(system):
    properties.predictor_uses_time(system)


def test_4_predictor_twin_maps_each_token_alone():
    """P3: a predictor of 1 x 1 convolutions says the same at every masked frame and teaches the encoder nothing."""
    fails(properties.predictor_uses_time, properties.toy_system(config(objective={"predictor_blocks": 0})))


def test_5_ema(simple):
    properties.ema(properties.toy_system(config(encoder={"dtype": "bfloat16"}), like=simple))


def test_5_ema_twin_averages_in_bfloat16(simple):
    """P5: the teacher is averaged in the type of the compute, and never closes the gap."""

    def update_aux_state(self, aux_state, params, stats, step):
        d = jnp.bfloat16(self.decay(step))

        def average(t, s):
            return (d * t.astype(jnp.bfloat16) + (1 - d) * s.astype(jnp.bfloat16)).astype(jnp.float32)

        return aux_state | {"teacher": jax.tree.map(average, aux_state["teacher"], params["encoder"])}

    fails(properties.ema, properties.toy_system(config(), twin(update_aux_state=update_aux_state), like=simple))


def test_6_loss_dtype(simple):
    low = properties.toy_system(config(encoder={"dtype": "bfloat16"}), like=simple)
    properties.loss_dtype(low, simple)


def test_6_loss_dtype_twin_sums_in_half(simple):
    """P6: sums over frames in float16 overflow, and the loss becomes 0 or NaN."""

    def loss(self, *args):
        terms, stats = GmmJepa.loss(self, *args)
        half = {
            name: dataclasses.replace(t, total=jnp.float16(t.total), weight=jnp.float16(t.weight))
            for name, t in terms.items()
        }
        return half, stats

    fails(properties.loss_dtype, properties.toy_system(config(), twin(loss=loss), like=simple), simple)


def test_7_micro_batches(simple):
    properties.micro_batches(simple)


def test_7_micro_batches_twin_averages_the_means(simple):
    """Each part divided by its own count: parts with few masked frames weigh too much."""

    def means(objective, optimizer, schedule, report_due, accumulate):
        def step(state, batch):
            def loss(params, part):
                terms = objective.loss(params, state.aux_state, part, state.key, state.step)[0]
                return total_loss(terms)

            parts = jax.tree.map(lambda x: x.reshape(-1, accumulate, *x.shape[1:]).swapaxes(0, 1), batch)
            values, gradients = jax.lax.map(lambda part: jax.value_and_grad(loss)(state.params, part), parts)
            params = jax.tree.map(lambda p, g: p - g.mean(0), state.params, gradients)
            return dataclasses.replace(state, params=params), {"loss": values.mean()}

        return step

    fails(properties.micro_batches, properties.toy_system(config(), step=means, like=simple))


@pytest.mark.parametrize("name", ["conv", "logmel"])
def test_8_alignment(name):
    if name == "conv":
        frontend = Pure(lambda rngs: ConvFrontend(8, jnp.float32, rngs))
    else:
        frontend = Pure(lambda rngs: LogMelFrontend())
    params = frontend.init(properties.KEY)
    properties.alignment(lambda wave: frontend.apply(params, wave, jnp.zeros((1, 40), bool))[0], log_mel)


def test_8_alignment_twin_centres_the_labels():
    """P13: labels from a centred spectrogram stand 200 samples beside the encoder's frames."""
    frontend = Pure(lambda rngs: LogMelFrontend())
    centred = lambda wave: log_mel(jnp.pad(wave, ((0, 0), (200, 200))))  # noqa: E731
    fails(properties.alignment, lambda wave: frontend.apply({}, wave, jnp.zeros((1, 40), bool))[0], centred)


def test_9_resume(tmp_path):
    properties.resume(tmp_path, toy.toy_batches(toy.toy_config()))


def test_9_resume_twin_reads_from_the_beginning(tmp_path):
    """P11: the position in the data is lost, a resumed run sees the first recordings again."""
    read = toy.toy_batches(toy.toy_config())
    fails(properties.resume, tmp_path, lambda start, stop: read(0, stop - start))


def divergence(posteriors: jax.Array, logits: jax.Array) -> jax.Array:
    ids, probs = top_k(posteriors, toys.K)
    return kl_to_sparse(ids, probs, jax.nn.log_softmax(logits))


def test_10_special_mixtures():
    properties.special_mixtures(divergence)


def test_10_special_mixtures_twin_turns_the_divergence_around():
    fails(
        properties.special_mixtures,
        lambda p, logits: optax.kl_divergence(jnp.log(p + 1e-9), jax.nn.softmax(logits)),
    )


def test_11_collapse(simple):
    properties.collapse_shows(simple, collapsed)


def test_11_collapse_twin_looks_at_the_loss(simple):
    """The loss of a collapsed encoder looks fine: a detector on it stays quiet."""
    fails(properties.collapse_shows, simple, lambda figures: "" if figures["cluster_usage"] >= 0 else "collapsed")


def test_12_one_compilation(simple):
    properties.one_compilation(simple)


def test_12_one_compilation_twin_gathers_hidden_frames(simple):
    """A shape that follows the number of masked frames cannot be compiled once (here: not at all)."""

    def loss(self, params, aux_state, batch, key, step):
        mask = self.draw_mask(jax.random.split(key, len(batch["lengths"])), batch["lengths"] // 320, 50)
        assert not isinstance(mask, jax.core.Tracer), "shapes that depend on data do not trace"
        return GmmJepa.loss(self, params, aux_state, batch, key, step)

    fails(properties.one_compilation, properties.toy_system(config(), twin(loss=loss), like=simple))


def test_stored_and_online_posteriors_give_the_same_loss(simple):
    online = properties.toy_system(config(anchor={"source": "online"}))
    batch = {name: x for name, x in simple.batch.items() if not name.startswith("anchor")}
    stored, computed = simple.terms(), online.terms(batch)
    for name in stored:
        np.testing.assert_allclose(
            computed[name].total / computed[name].weight, stored[name].total / stored[name].weight, atol=1e-3
        )
