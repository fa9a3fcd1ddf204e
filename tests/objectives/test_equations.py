"""Each paper's loss, derived again in plain numpy from what the encoder gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp, softmax
from support import toys
from support.toys import build

from jepa_speech.errors import UsageError
from jepa_speech.nn.module import Pure
from jepa_speech.nn.quantizer import GumbelQuantizer, Quantized, QuantizerConfig
from jepa_speech.nn.row_random import fold
from jepa_speech.objective_parts.collapse import Moments, collapsed, effective_rank, singular_by_eigenvalues
from jepa_speech.objective_parts.contrastive import code_perplexity, contrastive_terms, distractors, diversity
from jepa_speech.objective_parts.masked import ENCODER
from jepa_speech.objective_parts.online_mixture import rank

KEY = jax.random.PRNGKey(3)


def run(name: str, seconds: float = 1.0, **sections: dict):
    """objective, params, aux_state, terms, stats, view and the student's output of one toy batch."""
    o = build(toys.toy_objective(name, **sections), toys.toy_anchor())
    batch = toys.toy_batch(seconds=seconds, anchor=toys.toy_anchor())
    params, aux_state = jax.jit(o.init)(KEY)

    @jax.jit
    def everything(params, aux_state, step):
        view = o.view(batch, KEY)
        encoded = o.encode(params, view.mixed, view.lengths, view.mask, fold(view.keys, ENCODER))
        return (*o.loss(params, aux_state, batch, KEY, step), view, encoded)

    return o, batch, params, aux_state, everything


def mean(term) -> np.ndarray:
    return np.asarray(term.total) / np.asarray(term.weight)


def cosine(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T) / np.linalg.norm(x, axis=-1)[:, None] / np.linalg.norm(y, axis=-1)


def test_hubert():
    o, batch, params, aux_state, everything = run("hubert")
    terms, stats, view, encoded = everything(params, aux_state, 0)
    head = jax.tree.map(np.asarray, params["head"])
    masked = np.asarray(view.masked) > 0
    x = np.asarray(encoded.z)[masked] @ head["projection"]["kernel"] + head["projection"]["bias"]
    units = np.asarray(batch["anchor_ids"])[..., 0][masked]
    expected = -log_softmax(cosine(x, head["embeddings"]) / 0.1, axis=-1)[np.arange(len(units)), units]
    np.testing.assert_allclose(mean(terms["cluster"]), expected.mean(), rtol=1e-5)
    counts = np.bincount(units, minlength=toys.K) / len(units)
    entropy = -sum(p * np.log(p) for p in counts if p > 0)
    np.testing.assert_allclose(o.report(stats)["label_entropy"], entropy, rtol=1e-4)
    (p,), _ = jax.jit(o.clusters)(
        params, aux_state, batch["audio"], batch["lengths"], view.mask
    )  # the view of the loss
    found = -np.log(np.asarray(p)[masked][np.arange(len(units)), units]).mean()
    np.testing.assert_allclose(found, mean(terms["cluster"]), rtol=1e-3)  # which computes the level from the whole file


def test_distractors_are_other_hidden_frames_of_the_row():
    mask = np.random.default_rng(0).random((4, 60)) < 0.4
    mask[3] = np.arange(60) == 7  # only one masked frame
    drawn = np.asarray(distractors(jax.random.split(KEY, 4), jnp.asarray(mask), 2000))
    for row in range(3):
        masked = np.flatnonzero(mask[row])
        for t in masked:
            assert set(drawn[row, t]) == set(masked) - {t}
        count = np.bincount(drawn[row, masked[0]], minlength=60)[masked[1:]]
        assert count.max() < 2 * count.min()
    assert (drawn[3, 7] == 7).all()


def test_contrastive_loss_leaves_out_distractors_with_the_codes_of_the_target():
    rng = np.random.default_rng(0)
    context, targets = rng.normal(size=(2, 2, 12, 6)).astype(np.float32)
    ids = rng.integers(0, 3, (2, 12, 1))
    masked = (rng.random((2, 12)) < 0.6).astype(np.float32)
    negatives = np.asarray(distractors(jax.random.split(KEY, 2), jnp.asarray(masked > 0), 5))
    quantized = Quantized(jnp.asarray(targets), jnp.asarray(ids), jax.nn.one_hot(ids, 3))
    terms, stats = contrastive_terms(context, targets, quantized, negatives, masked, 0.1, 1.0, 0.1)
    total = 0.0
    for b, t in np.argwhere(masked):
        others = [s for s in negatives[b, t] if ids[b, s, 0] != ids[b, t, 0]]
        logits = cosine(context[b, t][None], targets[b, [t, *others]])[0] / 0.1
        total += logsumexp(logits) - logits[0]
    np.testing.assert_allclose(mean(terms["contrastive"]), total / masked.sum(), rtol=1e-5)
    used = np.bincount(ids[masked > 0][:, 0], minlength=3) / masked.sum()
    np.testing.assert_allclose(code_perplexity(stats["codes"]), np.exp(-(used * np.log(used)).sum()), rtol=1e-4)


def test_diversity_is_zero_where_codes_are_used_alike_and_largest_where_one_is():
    np.testing.assert_allclose(diversity(jnp.full((2, 8), 1 / 8)), 0, atol=1e-5)
    np.testing.assert_allclose(diversity(jax.nn.one_hot(jnp.array([1, 5]), 8)), 1 - 1 / 8, atol=1e-5)


def test_quantizer_chooses_hard_and_teaches_softly():
    """Forward the code vector of the noisy maximum, backward the gradient of the softmax at the temperature."""
    config = QuantizerConfig(groups=2, codes=5, width=6)
    quantizer = Pure(lambda rngs: GumbelQuantizer(4, config, rngs))
    params = quantizer.init(KEY)
    x, keys, tau = jax.random.normal(KEY, (2, 3, 4)), jax.random.split(KEY, 2), 0.7
    out = quantizer.apply(params, x, tau, keys)
    vectors = np.asarray(params["vectors"])  # (G, V, d)
    logits = (np.asarray(x) @ np.asarray(params["logits"]["kernel"]) + params["logits"]["bias"]).reshape(2, 3, 2, 5)
    noise = np.stack([jax.random.gumbel(key, (3, 2, 5)) for key in keys])
    soft = softmax((logits + noise) / tau, -1)
    np.testing.assert_array_equal(out.ids, soft.argmax(-1))
    chosen = np.stack([vectors[g][soft.argmax(-1)[..., g]] for g in range(2)], 2).reshape(2, 3, 6)
    np.testing.assert_allclose(out.vectors, chosen, atol=1e-6)
    np.testing.assert_allclose(out.probs, softmax(logits, -1), atol=1e-6)

    weight = np.random.default_rng(1).normal(size=(2, 3, 2, 3)).astype(np.float32)
    loss = lambda p: (quantizer.apply(p, x, tau, keys).vectors * weight.reshape(2, 3, 6)).sum()  # noqa: E731
    gradient = jax.grad(loss)(params)["logits"]["bias"].reshape(2, 5)
    per_code = np.einsum("btgd,gvd->btgv", weight, vectors)
    expected = soft * (per_code - (soft * per_code).sum(-1, keepdims=True)) / tau
    np.testing.assert_allclose(gradient, expected.sum((0, 1)), atol=1e-4)


def test_quantizer_temperature_is_a_function_of_the_step():
    config = QuantizerConfig(temperature=(2.0, 0.999995, 0.5))
    np.testing.assert_allclose(config.temperature_at(100_000), 2 * 0.999995**100_000, rtol=1e-4)
    assert config.temperature_at(1_000_000) == 0.5


def test_quantizer_widths_must_divide():
    with pytest.raises(UsageError, match=r"quantizer\.width = 255: must be a multiple of quantizer\.groups = 2"):
        QuantizerConfig(width=255)


def instance_norm(x: np.ndarray, length: int) -> np.ndarray:
    part = x[:length].astype(np.float64)
    return (x - part.mean(0)) / np.sqrt(part.var(0) + 1e-5)


def teacher_layers(o, params, aux_state, view) -> list[np.ndarray]:
    """The top blocks' feed-forward outputs of the teacher, normalised over each row's valid frames."""
    whole = params["encoder"] | {"blocks": aux_state["teacher"]}
    ff = jax.jit(lambda *a: o.encoder.apply(*a).ff)(whole, view.clean, view.lengths)[-o.config.top_blocks :]
    rows = range(len(view.lengths))
    return [np.stack([instance_norm(np.asarray(x)[b], int(view.frame_lengths[b])) for b in rows]) for x in ff]


def test_data2vec():
    o, _, params, aux_state, everything = run("data2vec", encoder={"blocks": 2}, objective={"top_blocks": 2})
    aux_state = {"teacher": jax.tree.map(lambda x: 1.1 * x, aux_state["teacher"])}
    terms, _, view, encoded = everything(params, aux_state, 0)
    masked = np.asarray(view.masked) > 0
    target = (sum(teacher_layers(o, params, aux_state, view)) / 2)[masked]
    head = params["head"]
    prediction = (np.asarray(encoded.z) @ np.asarray(head["kernel"]) + head["bias"])[masked]
    expected = ((prediction - target) ** 2).sum(-1).mean() / np.sqrt(target.shape[-1])
    np.testing.assert_allclose(mean(terms["regression"]), expected, rtol=1e-4)


def test_dinosr_over_three_steps():
    o, _, params, aux_state, everything = run("dinosr", encoder={"blocks": 2}, objective={"top_blocks": 2})
    sums, counts = np.asarray(aux_state["code_sums"], np.float64), np.asarray(aux_state["code_counts"], np.float64)
    update = jax.jit(o.update_aux_state)
    np.testing.assert_allclose(sums.mean(1), 0, atol=1e-5)  # each dimension has mean 0 and deviation 1 over the codes
    np.testing.assert_allclose(sums.std(1), 1, atol=1e-3)
    for step in range(3):
        terms, stats, view, encoded = everything(params, aux_state, step)
        masked = np.asarray(view.masked) > 0
        layers = teacher_layers(o, params, aux_state, view)
        heads = params["heads"]
        logits = (np.asarray(encoded.z) @ np.asarray(heads["kernel"]) + heads["bias"])[masked].reshape(-1, 2, 8)
        losses = []
        for k, layer in enumerate(layers):
            x = layer[masked]
            codewords = sums[k] / counts[k][:, None]
            code = ((x[:, None] - codewords) ** 2).sum(-1).argmin(-1)
            losses.append(-log_softmax(logits[:, k], axis=-1)[np.arange(len(code)), code].mean())
            for v in range(8):  # after the codes have been read
                if (code == v).any():
                    counts[k, v] = 0.9 * counts[k, v] + 0.1 * (code == v).sum()
                    sums[k, v] = 0.9 * sums[k, v] + 0.1 * x[code == v].sum(0)
        np.testing.assert_allclose(mean(terms["codes"]), np.mean(losses), rtol=1e-4)
        aux_state = update(aux_state, params, stats, step)
        np.testing.assert_allclose(aux_state["code_counts"], counts, rtol=1e-4)
        np.testing.assert_allclose(aux_state["code_sums"], sums, rtol=1e-3, atol=1e-3)


def test_dinosr_freezes_teacher_and_front_end():
    o = build(toys.toy_objective("dinosr", objective={"freeze_teacher_at": 10, "freeze_frontend_at": 20}))
    assert float(o.decay(9)) < 1 and float(o.decay(10)) == 1
    assert {name: float(x) for name, x in o.rates(20).items()} == {"encoder/frontend": 0, "encoder/projection": 0}
    assert set(map(float, o.rates(19).values())) == {1}


def test_w2v_bert():
    o, _, params, aux_state, everything = run("w2v_bert", seconds=2.0)
    terms, _, view, encoded = everything(params, aux_state, 0)
    masked = np.asarray(view.masked) > 0
    keys = fold(view.keys, 4)  # of the Gumbel noise
    quantized = jax.jit(o.quantizer.apply)(params["quantizer"], encoded.features, 2.0, keys)
    logits = (np.asarray(encoded.z) @ np.asarray(params["head"]["kernel"]) + params["head"]["bias"])[masked]
    code = np.asarray(quantized.ids)[..., 0][masked]
    expected = -log_softmax(logits, axis=-1)[np.arange(len(code)), code].mean()
    np.testing.assert_allclose(mean(terms["prediction"]), expected, rtol=1e-4)
    assert terms["contrastive"].scale == 1.0 and terms["diversity"].scale == 0.1 and terms["prediction"].scale == 1.0


def test_w2v_bert_prediction_does_not_teach_the_quantiser():
    o, batch, params, aux_state, _ = run("w2v_bert", seconds=2.0, objective={"contrastive_weight": 0.0})

    def prediction(params):
        term = o.loss(params, aux_state, batch, KEY, 0)[0]["prediction"]
        return term.total / term.weight

    gradient = jax.jit(jax.grad(prediction))(params)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient["quantizer"]))
    assert any(np.any(leaf) for leaf in jax.tree.leaves(gradient["encoder"]))


@pytest.mark.parametrize(
    ("name", "sections", "message"),
    [
        ("wav2vec2", {"objective": {"distractors": 500}}, r"objective\.distractors = 500: .* fewer than that"),
        ("wav2vec2", {"mask": {"span": (60, 60)}}, r"mask\.span = \(60, 60\): a clip of 49 frames is too short"),
        ("hubert", {"mask": {"span": (60, 60)}}, r"mask\.span = \(60, 60\): a clip of 49 frames is too short"),
    ],
)
def test_what_the_data_cannot_give_is_said_before_the_first_step(name, sections, message):
    o = build(toys.toy_objective(name, **sections), toys.toy_anchor())
    with pytest.raises(UsageError, match=message):
        o.check(16_000, 64_000)


@pytest.mark.parametrize(
    ("name", "sections", "message"),
    [
        ("data2vec", {"objective": {"top_blocks": 3}}, r"objective\.top_blocks = 3: the encoder has 1 blocks"),
        ("w2v_bert", {"objective": {"contrastive_blocks": 2}}, r"contrastive_blocks = 2: the encoder has 2 blocks"),
        ("w2v_bert", {"quantizer": {"groups": 2}}, r"quantizer\.groups = 2: w2v-BERT predicts one code"),
    ],
)
def test_sizes_that_cannot_be_are_refused(name, sections, message):
    with pytest.raises(UsageError, match=message):
        build(toys.toy_objective(name, **sections))


def test_hubert_needs_an_anchor():
    config = toys.toy_objective("hubert", anchor={"components": 0})
    with pytest.raises(UsageError, match=r"objective\.name = hubert needs an anchor"):
        build(config)


def test_labels_need_an_encoder_on_their_grid():
    config = toys.toy_objective("hubert", encoder={"frontend": "subsampled"})
    with pytest.raises(UsageError, match="labels at 50 Hz"):
        build(config)
    config.encoder = {"name": "wav2vec2_bert", "width": 16, "blocks": 1}
    with pytest.raises(UsageError, match=r"every frame that 400 samples fill, .* wav2vec2_bert takes 560"):
        build(config)


def test_one_code_for_all_frames_is_an_alarm():
    assert "code perplexity 1.02" in collapsed({"effective_rank": 20.0, "code_perplexity": 1.02})
    assert collapsed({"effective_rank": 20.0, "code_perplexity": 12.0}) == ""


def test_the_effective_rank_at_published_width_is_a_short_program_for_tpus():
    """jax's own eigenvalues of 768 x 768 are 2,700 lines there, which its compiler works at for minutes."""
    moments = Moments(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in [(), (768,), (768, 768)]))
    lowered = jax.jit(effective_rank).trace(moments).lower(lowering_platforms=("tpu",)).as_text()
    assert "Eigh" in lowered and len(lowered.splitlines()) < 200


@pytest.mark.parametrize("shape", [(40, 12), (12, 40)])
def test_singular_values_as_eigenvalues(shape):
    """As on TPUs. Small ones keep their precision: the eigenvalues of the covariance would not have it in float32."""
    x = np.random.default_rng(0).normal(size=shape) * np.logspace(0, -5, shape[1])
    found = np.sort(singular_by_eigenvalues(jnp.asarray(x, jnp.float32)))[::-1]
    np.testing.assert_allclose(found, np.linalg.svd(x, compute_uv=False), rtol=0.02, atol=1e-6)


def test_the_rank_of_layers_is_a_short_program_for_tpus():
    """jax's own singular values of 1,536 x 768 keep their compiler busy for minutes."""
    frames, filled = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in [(2, 1536, 768), (1536,)])
    layers = jax.jit(jax.vmap(rank, (0, None))).trace(frames, filled).lower(lowering_platforms=("tpu",)).as_text()
    assert "Eigh" in layers and len(layers.splitlines()) < 500
