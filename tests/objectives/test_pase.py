"""PASE and PASE+ at toy size: every worker learns, rows that pad or fill count for nothing, statistics add up."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import toys
from support.toys import build

from jepa_speech.errors import UsageError
from jepa_speech.training.configfile import config_dict
from jepa_speech.training.sharding import MeshConfig, make_mesh, place_batch
from jepa_speech.training.state import TrainState, count_params
from jepa_speech.training.step import make_step

KEY = jax.random.PRNGKey(0)
MAPS = (6, 6, 8, 8, 8, 8, 12, 12)


def toy_pase(plus: bool = False, **objective):
    config = config_dict(str(toys.CONFIGS / ("pase_plus.py" if plus else "pase.py")), [])
    config.encoder.update(maps=MAPS, embedding=10)
    if plus:
        config.encoder.recurrent = 8
    config.objective.update({"hidden": 24, "decoder": (8, 8, 8)} | objective)
    return build(config)


def toy_batch(rows: int = 4, seed: int = 0) -> dict[str, jax.Array]:
    """Rows of half a second and less, each with another crop of itself and a crop of another recording."""
    batch = toys.toy_batch(rows=rows, seconds=0.5, seed=seed)
    inside = jnp.arange(batch["audio"].shape[1]) < batch["lengths"][:, None]
    other = toys.toy_batch(rows=rows, seconds=0.5, seed=seed + 1)
    return batch | {
        "context": jnp.roll(batch["audio"], 2000, axis=1) * inside,
        "context_lengths": batch["lengths"],
        "mix": other["audio"],
        "mix_lengths": other["lengths"],
        "mix_level": other["level"],
    }


def means(terms: dict) -> dict[str, float]:
    return {name: float(term.total / jnp.maximum(term.weight, 1e-6)) for name, term in terms.items()}


def close(a: dict, b: dict, rtol: float) -> None:
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=rtol, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("plus", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["pase", "pase_plus"])
def test_every_worker_learns(plus):
    """12 steps on one batch: losses fall, gradients are finite and reach every parameter; `aux_state` keeps shape."""
    some = ("waveform", "gammatone_long", "prosody", "lim", "gim")  # one of each kind: quicker to compile
    objective = toy_pase(plus, **({"workers": some} if plus else {}))
    params, aux_state = jax.jit(objective.init)(KEY)
    optimizer = optax.scale_by_adam()
    step = jax.jit(make_step(objective, optimizer, lambda _: 3e-3, lambda _: False))
    zero = jnp.zeros((), jnp.int32)
    state, rows = TrainState(params, aux_state, optimizer.init(params), zero, KEY, zero, zero), []
    batch = toy_batch()
    for _ in range(12):
        state, metrics = step(state, batch)
        rows.append(jax.device_get(metrics["terms"]))
        if len(rows) == 1:
            for path, gradient in jax.tree_util.tree_leaves_with_path(state.opt_state.mu):
                name = jax.tree_util.keystr(path, simple=True, separator="/")
                moves = name != "encoder/out/bias"  # the last normalisation takes it away again
                assert np.isfinite(gradient).all() and (np.abs(gradient).max() > 0 or not moves), name
    assert int(state.skipped) == 0 and step._cache_size() == 1
    for name in objective.config.workers:
        assert rows[-1][name] < rows[0][name], name
    assert jax.tree.structure(state.aux_state) == jax.tree.structure(aux_state)
    jax.tree.map(
        lambda a, b: np.testing.assert_equal((a.shape, a.dtype), (b.shape, b.dtype)), state.aux_state, aux_state
    )
    frames = int((batch["lengths"] // 160).sum())
    assert float(state.aux_state["targets"]["prosody"]["weight"]) == 12 * frames


@pytest.fixture(scope="module")
def small():
    """A PASE with one worker of each kind, its first parameters and state, and its compiled loss."""
    objective = toy_pase(workers=("waveform", "prosody", "lim", "gim", "spc"))
    params, aux_state = jax.jit(objective.init)(KEY)
    return objective, params, aux_state, jax.jit(lambda batch: objective.loss(params, aux_state, batch, KEY, 0))


def test_batch_norm_is_the_same_on_four_devices(small):
    _, _, _, loss = small
    mesh = make_mesh(MeshConfig())
    assert mesh.size == 4
    one, four = loss(toy_batch()), loss(place_batch(mesh, jax.device_get(toy_batch())))
    close(means(one[0]), means(four[0]), 1e-5)
    for a, b in zip(jax.tree.leaves(one[1]["norms"]), jax.tree.leaves(four[1]["norms"]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)


def test_filler_rows_and_padding_count_for_nothing(small):
    _, _, _, loss = small
    batch = toy_batch() | {"weight": jnp.array([1.0, 1.0, 1.0, 0.0])}
    reference = means(loss(batch)[0])
    other = toy_batch(seed=5)
    loud = {name: x.at[3].set(9 * other[name][3]) if x.ndim == 2 else x for name, x in batch.items()}
    close(means(loss(loud)[0]), reference, 1e-5)
    longer = {name: jnp.pad(x, ((0, 0), (0, 1600))) if x.ndim == 2 else x for name, x in batch.items()}
    close(means(loss(longer)[0]), reference, 1e-3)  # long sums in another order, through nine normalisations


def test_sums_of_halves_add_where_no_normalisation_comes_before(small):
    _, _, _, loss = small
    batch = toy_batch()
    whole = loss(batch)[1]
    halves = [loss({name: x[i : i + 2] for name, x in batch.items()})[1] for i in (0, 2)]
    for part in (lambda stats: stats["targets"], lambda stats: stats["norms"][0]):
        added = jax.tree.map(jnp.add, *map(part, halves))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=0.02), added, part(whole))
    assert [x.weight for x in halves[0]["norms"]] != [x.weight for x in whole["norms"]]


def test_representations_depend_on_the_row_alone(small):
    objective, params, aux_state, _ = small
    run = jax.jit(lambda wave, lengths: objective.represent(params, aux_state, wave, lengths))
    wave = toys.toy_audio(2, 2000)
    (together,), lengths = run(wave, jnp.array([2000, 1300]))
    (alone,), _ = run(0.01 * wave[1:, :1300], jnp.array([1300]))  # of any level
    assert lengths.tolist() == [12, 8] and together.shape == (2, 12, 10)
    np.testing.assert_allclose(together[1, :8], alone[0], atol=1e-5)


def test_what_cannot_be_is_refused():
    for wrong in ({"workers": ("lps", "spectre")}, {"workers": ()}, {"frames": 2}, {"decoder": (8, 8)}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            toy_pase(**wrong)
    objective = toy_pase()
    with pytest.raises(UsageError, match="480"):
        objective.check(400, 16_000)
    with pytest.raises(UsageError, match="spc"):
        objective.check(480, 4_000)
    objective.check(480, 16_000)


def test_sums_are_float32_in_any_arithmetic():
    objective = toy_pase(plus=True)
    low = dataclasses.replace(objective, encoder_config=dataclasses.replace(objective.encoder_config, dtype="bfloat16"))
    params, aux_state = jax.eval_shape(low.init, KEY)
    terms, stats = jax.eval_shape(low.loss, params, aux_state, toy_batch(), KEY, 0)
    assert {x.dtype for x in jax.tree.leaves((params, aux_state, terms, stats))} == {jnp.dtype("float32")}


def test_a_batch_brings_only_what_the_workers_need():
    assert toy_pase().batch_fields == {"context", "mix"}
    assert toy_pase(workers=("lps",)).batch_fields == frozenset()
    assert toy_pase(plus=True, workers=("lps",)).batch_fields == {"mix"}


def test_published_sizes():
    """Encoders to 0.2%; workers as their configs give them."""
    for name, size in (("pase", 5.81e6), ("pase_plus", 7.83e6)):
        objective = build(config_dict(str(toys.CONFIGS / f"{name}.py"), []))
        params, _ = jax.eval_shape(objective.init, KEY)
        assert count_params(params["encoder"]) == pytest.approx(size, rel=0.002)
        assert set(params["workers"]) == set(objective.config.workers)
