"""Properties that every system must have. Each is a function of a system, so that broken twins can fail it.

The numbers are those of the list in the issue: 1 leak, 2 padding, 3 deterministic targets, 4 a predictor that uses
time, 5 EMA, 6 dtypes of the loss, 7 micro-batches, 8 alignment, 9 resume, 10 special mixtures, 11 collapse, 12 one
compilation.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from support import toys
from support.toys import build
from training import toy

from jepa_speech.features.grid import HOP, SAMPLE_RATE, WINDOW, frames
from jepa_speech.training.checkpoint import read_weights
from jepa_speech.training.state import TrainState
from jepa_speech.training.step import make_step

KEY = jax.random.PRNGKey(0)


@dataclass
class System:
    """An objective at toy size with its parameters and a batch; `step` is how it is trained.

    like: a system with the same parameters. They are taken from there, since compiling `init` takes most of a second.
    """

    objective: Any
    batch: dict[str, jax.Array]
    step: Callable = make_step
    like: "System | None" = None
    params: Any = field(init=False)
    aux_state: Any = field(init=False)
    loss: Callable = field(init=False)

    def __post_init__(self) -> None:
        if self.like:
            self.params, self.aux_state = self.like.params, self.like.aux_state
        else:
            self.params, self.aux_state = jax.jit(self.objective.init)(KEY)
        self.loss = jax.jit(self.objective.loss)  # one for all checks, since each would compile its own

    def terms(self, batch: dict[str, jax.Array] | None = None) -> dict:
        return self.loss(self.params, self.aux_state, batch or self.batch, KEY, 0)[0]


def toy_system(config: Any = None, objective: Callable = build, **kwargs: Any) -> System:
    anchor = toys.toy_anchor()
    config = config or toys.toy_config()
    return System(objective(config, anchor), toys.toy_batch(anchor=anchor), **kwargs)


def hidden_samples(objective: Any, mask: np.ndarray, samples: int) -> np.ndarray:
    """Returns the samples that no visible frame's window covers: (B, T) -> (B, S)."""
    hop, seen = round(SAMPLE_RATE / objective.frame_rate), np.zeros((len(mask), samples), bool)
    for row, t in np.argwhere(~mask):
        seen[row, t * hop : t * hop + objective.min_samples] = True
    return ~seen


def leak(system: System) -> None:
    """1. Masked samples change nothing that the student computes, neither at visible nor at masked frames."""
    o, lengths = system.objective, system.batch["lengths"]
    wave = system.batch["audio"] / system.batch["level"][:, None]
    count = wave.shape[1]
    size, keys = o.encoder.frames(count), jax.random.split(KEY, len(wave))
    mask = o.draw_mask(keys, o.encoder.frames(lengths), size)
    noise = jax.random.normal(KEY, wave.shape) * hidden_samples(o, np.asarray(mask), count)
    assert jnp.abs(noise).sum(1).min() > 0

    @jax.jit
    def student(wave: jax.Array) -> list[jax.Array]:
        z = o.encode(system.params, wave, lengths, mask, keys).z
        if "predictor" not in system.params:
            return [z]
        prediction = o.predictor.apply(system.params["predictor"], z, mask, o.encoder.frames(lengths))
        return [z, prediction, o.head.apply(system.params["head"], z)]

    inside = np.arange(size) < np.asarray(o.encoder.frames(lengths))[:, None]
    for before, after in zip(student(wave), student(wave + noise), strict=True):
        np.testing.assert_array_equal(np.asarray(before)[inside], np.asarray(after)[inside])


def padding_invariance(system: System) -> None:
    """2. Neither the amount of padding nor the batch mates change a valid frame, or the loss, by more than 1e-5."""
    o, batch = system.objective, system.batch
    represent = jax.jit(lambda wave, lengths: o.represent(system.params, system.aux_state, wave, lengths))
    alone, length = batch["audio"][-1:], int(batch["lengths"][-1])
    assert length < alone.shape[1]
    expected, frame_lengths = represent(alone[:, :length], jnp.array([length]))
    mates, _ = represent(batch["audio"], batch["lengths"])
    for layer, exact in zip(mates, expected, strict=True):
        count = int(frame_lengths[0]) * layer.shape[1] // mates[-1].shape[1]
        np.testing.assert_allclose(layer[-1:, :count], exact[:, :count], atol=1e-5)

    def lengthened(x: jax.Array) -> jax.Array:
        extra = {batch["audio"].shape[1]: 32 * HOP, frames(batch["audio"].shape[1]): 32}
        more = extra.get(x.shape[1], 0) if x.ndim > 1 else 0
        return jnp.pad(x, [(0, 0), (0, more)] + [(0, 0)] * (x.ndim - 2)) if more else x

    if o.batch_statistics:
        return
    short, long = system.terms(), system.terms({name: lengthened(x) for name, x in batch.items()})
    for name in short:
        a, b = short[name].total / short[name].weight, long[name].total / long[name].weight
        np.testing.assert_allclose(b, a, atol=1e-5, err_msg=name)


def fix(objective: Any, hide: Callable) -> Any:
    """The objective with a mask that a test gives it."""
    kind = type(objective)
    twin = type(kind.__name__, (kind,), {"draw_mask": lambda self, *args: hide(*args)})
    return twin(**{name: getattr(objective, name) for name in kind.__dataclass_fields__})


def deterministic_target(system: System) -> None:
    """3. With the mask held, another key changes the student (dropout) and not one bit of the target."""
    fixed = jnp.tile(jnp.arange(frames(system.batch["audio"].shape[1])) % 2 == 0, (len(system.batch["audio"]), 1))
    o = fix(system.objective, lambda *_: fixed)
    loss = jax.jit(o.loss)
    (first, one), (second, two) = (
        loss(system.params, system.aux_state, system.batch, jax.random.PRNGKey(seed), 0) for seed in (0, 1)
    )
    assert first["jepa"].total != second["jepa"].total, "dropout is off: the check would show nothing"
    jax.tree.map(np.testing.assert_array_equal, one["target"], two["target"])


def predictor_uses_time(system: System) -> None:
    """4. Predictions differ between masked frames, and L_JEPA gives the encoder a gradient."""
    o, lengths = system.objective, system.batch["lengths"]
    wave = system.batch["audio"] / system.batch["level"][:, None]

    @jax.jit
    def predicted(params: Any) -> tuple[jax.Array, jax.Array]:
        mask = o.draw_mask(jax.random.split(KEY, len(wave)), frames(lengths), frames(wave.shape[1]))
        z = o.encode(params, wave, lengths, mask, None).z
        return o.predictor.apply(params["predictor"], z, mask, frames(lengths)), mask

    prediction, mask = map(np.asarray, predicted(system.params))
    spread = np.stack([row[hidden].std(0).mean() for row, hidden in zip(prediction, mask, strict=True)])
    assert spread.min() > 1e-4

    def jepa(params: Any) -> jax.Array:
        term = o.loss(params, system.aux_state, system.batch, KEY, 0)[0]["jepa"]
        return term.total / term.weight

    gradient = jax.jit(jax.grad(jepa))(system.params)
    assert optax.tree.norm(gradient["encoder"]["blocks"]) > 1e-4


def ema(system: System) -> None:
    """5. After n updates from a known gap the teacher is where the closed form says, in float32."""
    o = system.objective
    apart = jax.tree.map(lambda p: 1.02 * p + 1e-3, system.params["encoder"])
    aux_state = system.aux_state | {"teacher": apart}
    update = jax.jit(lambda aux_state: o.update_aux_state(aux_state, system.params, {}, 0))
    for _ in range(100):
        aux_state = update(aux_state)
    left = float(o.decay(0)) ** 100
    expected = jax.tree.map(lambda s, t: s + left * (t - s), system.params["encoder"], apart)
    for teacher, exact in zip(jax.tree.leaves(aux_state["teacher"]), jax.tree.leaves(expected), strict=True):
        assert teacher.dtype == jnp.float32
        np.testing.assert_allclose(teacher, exact, rtol=1e-4, atol=1e-6)


def loss_dtype(system: System, reference: System) -> None:
    """6. `system` computes in bfloat16: its loss is that of float32 to 1e-2, and its sums are float32 at any size."""
    large = {name: jax.ShapeDtypeStruct((64, *x.shape[1:]), x.dtype) for name, x in system.batch.items()}
    samples = 1500 * HOP + WINDOW - HOP
    large["audio"] = jax.ShapeDtypeStruct((64, samples), jnp.float32)
    for name in ("anchor_ids", "anchor_probs"):
        large[name] = jax.ShapeDtypeStruct((64, 1500, large[name].shape[2]), large[name].dtype)
    terms = jax.eval_shape(system.objective.loss, system.params, system.aux_state, large, KEY, 0)[0]
    for name, term in terms.items():
        assert term.total.dtype == term.weight.dtype == jnp.float32, name
    low, high = system.terms(), reference.terms()
    for name in low:
        a, b = low[name].total / low[name].weight, high[name].total / high[name].weight
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-2, err_msg=name)


def micro_batches(system: System) -> None:
    """7. A batch in one part or four gives one loss and gradient, though the parts hide different counts.

    Two parts are those of every objective.
    """
    o = system.objective
    optimizer = optax.sgd(1.0)
    gradients, losses = [], []
    for parts in (1, 4):
        step = system.step(o, optimizer, lambda _: 1.0, lambda _: False, parts)
        state = train_state(system, optimizer)
        after, metrics = jax.jit(step)(state, system.batch)
        losses.append(float(metrics["loss"]))
        gradients.append(jax.tree.map(jnp.subtract, after.params, state.params))
    np.testing.assert_allclose(losses, losses[0], rtol=1e-5)
    apart = optax.tree.norm(jax.tree.map(jnp.subtract, *gradients))
    assert apart <= 1e-5 * optax.tree.norm(gradients[0])


def train_state(system: System, optimizer: optax.GradientTransformation) -> Any:
    zero = jnp.zeros((), jnp.int32)
    return TrainState(system.params, system.aux_state, optimizer.init(system.params), zero, KEY, zero, zero)


def alignment(frontend: Callable[[jax.Array], jax.Array], features: Callable[[jax.Array], jax.Array]) -> None:
    """8. A click at a sample moves exactly those frames of the front-end whose label frames it moves."""
    both = [jax.jit(f) for f in (frontend, features)]
    samples = 40 * HOP + WINDOW - HOP
    quiet = 1e-3 * jax.random.normal(KEY, (1, samples))
    for sample in (3 * HOP + 10, 20 * HOP + 50, 31 * HOP + 200):
        click = quiet.at[0, sample].add(1.0)
        moved = [set(np.flatnonzero(np.abs(np.asarray(f(click) - f(quiet))[0]).max(-1) > 1e-6)) for f in both]
        expected = {t for t in range(40) if t * HOP <= sample < t * HOP + WINDOW}
        assert moved == [expected, expected]


def special_mixtures(divergence: Callable[[jax.Array, jax.Array], jax.Array]) -> None:
    """10. KL to a uniform posterior has no gradient at a uniform prediction; KL to a one-hot one is cross-entropy.

    divergence(posteriors (N, K), logits (N, K)) -> (N,).
    """
    uniform = jnp.full((3, toys.K), 1 / toys.K)
    slope = jax.jit(jax.grad(lambda logits, p: divergence(p, logits).sum()))
    np.testing.assert_allclose(slope(jnp.zeros((3, toys.K)), uniform), 0, atol=1e-6)
    logits = 3 * jax.random.normal(KEY, (5, toys.K))
    one_hot = jax.nn.one_hot(jnp.arange(5), toys.K)
    expected = optax.softmax_cross_entropy(logits, one_hot)
    np.testing.assert_allclose(jax.jit(divergence)(one_hot, logits), expected, rtol=1e-5)
    np.testing.assert_allclose(slope(logits, one_hot), jax.nn.softmax(logits) - one_hot, atol=1e-5)


def collapse_shows(system: System, detector: Callable[[dict[str, float]], str]) -> None:
    """11. The detector is quiet on a fresh system and fires on an encoder that maps everything to one vector."""

    def figures(params: Any) -> dict[str, float]:
        stats = system.loss(params, system.aux_state | {"teacher": params["encoder"]}, system.batch, KEY, 0)[1]
        return {name: float(x) for name, x in system.objective.report(stats).items()}

    assert detector(figures(system.params)) == ""
    dead = jax.tree.map(jnp.zeros_like, system.params["encoder"]["norm"])
    constant = system.params | {"encoder": system.params["encoder"] | {"norm": dead}}
    assert detector(figures(constant)) != ""


def one_compilation(system: System) -> None:
    """12. Batches of one bucket, whatever their lengths and masks, run one compiled step."""
    anchor = toys.toy_anchor()
    system.terms()
    compiled = system.loss._cache_size()
    for seed in range(1, 4):
        batch = toys.toy_batch(seed=seed, anchor=anchor, full=seed == 3)
        system.loss(system.params, system.aux_state, batch, KEY, seed)
    assert system.loss._cache_size() == compiled


def resume(folder: Path, batches: Callable[[int, int], Iterator[dict]]) -> None:
    """9. A run that was killed and resumed ends with exactly the state and metrics of one that was not.

    batches(start, stop) is how the loop reads its data.
    """
    config, objective = toy.toy_config(steps=4, checkpoint_every=2, report_every=2), toy.ToyObjective()

    class Killed(Exception):
        pass

    def dying(start: int, stop: int) -> Iterator[dict]:
        yield from itertools.islice(batches(start, stop), 3)
        raise Killed

    toy.train(config, objective, batches, folder / "whole")
    with contextlib.suppress(Killed):
        toy.train(config, objective, dying, folder / "cut")
    toy.train(config, objective, batches, folder / "cut")
    states = [read_weights(folder / name)[1] for name in ("whole", "cut")]
    assert states[0].keys() == states[1].keys()
    for name in states[0]:
        np.testing.assert_array_equal(states[0][name], states[1][name], err_msg=name)
    metrics = [(folder / name / "metrics.jsonl").read_bytes() for name in ("whole", "cut")]
    assert metrics[0] == metrics[1]
