"""Heads that transcribe whole utterances, by CTC on the weighted sum of the layers (ctc_head.py).

A task has FIGURES, the names of its figures and which direction is better, and `score(reference, hypothesis)`, the
counts [a, b] of each figure for one utterance. Targets are sequences of symbols. With a language model (Recipe.beam),
each figure also has a version NAME_lm, of beam search on test.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from jepa_speech.errors import UserError
from jepa_speech.nn.module import Params
from jepa_speech.probing import bootstrap
from jepa_speech.probing.classification import views
from jepa_speech.probing.ctc_head import Recipe, Recogniser
from jepa_speech.probing.inputs import Sequences
from jepa_speech.probing.progress import QUIET, Bar, stepped
from jepa_speech.text.beam import WordBeam
from jepa_speech.text.vocabulary import Vocabulary

FORM = Sequences

Batch = dict[str, np.ndarray]
Decode = Callable[[np.ndarray], Sequence[str]]  # log p (T, V) of an utterance -> its symbols
Hypotheses = list[Sequence[str]]


class Fitted(NamedTuple):
    """A trained recogniser. valid: its best first figure on valid; curve: rows [step, first figure on valid]."""

    params: Params
    rate: float
    valid: float
    curve: list[list[float]]


def evaluate(task: Any, data: Mapping[str, Sequences], recipe: Recipe, seed: int, bar: Bar = QUIET) -> dict[str, Any]:
    """Returns the results of one task (see evaluate.py), and `infeasible`: training texts longer than their frames."""
    train, test = data["train"], data["test"]
    check_references(task, data)
    vocabulary = Vocabulary.of(train.targets)
    decoders: dict[str, Decode] = {"": vocabulary.greedy}
    if recipe.beam is not None:
        decoders["_lm"] = WordBeam(recipe.beam, vocabulary)
    layers, _, width = train.features[0].shape
    model = Recogniser(layers, width, len(vocabulary), recipe)
    padding = Padding(data, vocabulary)
    fitted = [
        fit(task, model, padding, data, vocabulary, rate, seed, partial(bar, f"learning rate {rate:g}"))
        for rate in recipe.learning_rates
    ]
    best = (min if first_figure(task)[1] == "lower" else max)(fitted, key=lambda one: one.valid)
    counts: dict[str, np.ndarray] = {}
    figures: dict[str, str] = {}
    for suffix, decode in decoders.items():
        with bar(f"test{suffix}", len(test.keys), "utterance") as shown:
            hypotheses = transcribe(model, best.params, padding, test, decode, shown.update)
        found = scores(task, test, hypotheses)
        counts |= {figure + suffix: values for figure, values in found.items()}
        figures |= {figure + suffix: way for figure, way in task.FIGURES.items()}
    name = list(views(layers))[-1]  # the weighted sum, or the only layer
    head = {
        "valid": best.valid,
        "figures": {figure: bootstrap.figure(test.keys, counts[figure]) for figure in figures},
        "learning_rate": best.rate,
    }
    return {
        "figures": figures,
        "chosen": name,
        "heads": {name: head},
        "layer_weights": jax.device_get(jax.nn.softmax(best.params["scalars"])).tolist(),
        "curve": best.curve,
        "sizes": {split: len(part.keys) for split, part in data.items()},
        "infeasible": sum(needed(ids) > len(x[0]) for ids, x in zip(padding.ids(train), train.features, strict=True)),
    }


def fit(
    task: Any,
    model: Recogniser,
    padding: "Padding",
    data: Mapping[str, Sequences],
    vocabulary: Vocabulary,
    rate: float,
    seed: int,
    bar: Callable[[int, str], Any],
) -> Fitted:
    """Trains on train at one learning rate, and keeps the best parameters on valid."""
    recipe, (figure, way) = model.recipe, first_figure(task)
    key = jax.random.PRNGKey(seed)
    params, state = model.init(key)
    best: Fitted | None = None
    curve: list[list[float]] = []
    batches = padding.epochs(data["train"], recipe.batch, seed)
    for number in stepped(recipe.steps, bar, first=1):
        batch = next(batches)
        params, state = model.step(params, state, batch, rate, jax.random.fold_in(key, number))
        if number % max(1, recipe.steps // recipe.looks) == 0 or number == recipe.steps:
            found = transcribe(model, params, padding, data["valid"], vocabulary.greedy)
            errors, length = scores(task, data["valid"], found)[figure].sum(0)
            curve.append([number, float(errors / length)])
            if best is None or (curve[-1][1] < best.valid if way == "lower" else curve[-1][1] > best.valid):
                best = Fitted(params, rate, curve[-1][1], curve)
    assert best is not None  # the last step is evaluated
    return best


def check_references(task: Any, data: Mapping[str, Sequences]) -> None:
    """Raises UserError if all references of train, or all of valid, are empty.

    Single empty references are allowed: all words of the hypothesis count as insertions.
    """
    if not any(map(len, data["train"].targets)):
        raise UserError("the train split has only empty references, so there is nothing to learn")
    nothing: Hypotheses = [()] * len(data["valid"].keys)
    if not scores(task, data["valid"], nothing)[first_figure(task)[0]][:, 1].sum():
        raise UserError(f"the valid split has only empty references, so {first_figure(task)[0]} is undefined")


def first_figure(task: Any) -> tuple[str, str]:
    """Returns the figure that chooses settings, and whether "lower" or "higher" is better."""
    return next(iter(task.FIGURES.items()))


def transcribe(
    model: Recogniser,
    params: Params,
    padding: "Padding",
    split: Sequences,
    decode: Decode,
    done: Callable[[], Any] = lambda: None,
) -> Hypotheses:
    """Returns the symbols of each utterance, in order. done: called after each utterance."""
    found: Hypotheses = [()] * len(split.keys)
    for rows, batch in padding.in_order(split, model.recipe.batch):
        log_probs = np.asarray(model.emissions(params, batch))
        for row, emissions, length in zip(rows, log_probs, batch["lengths"], strict=False):
            found[row] = decode(emissions[:length])
            done()
    return found


def scores(task: Any, split: Sequences, hypotheses: Hypotheses) -> dict[str, np.ndarray]:
    """Returns figure -> counts (U, 2)."""
    counts = [task.score(target, found) for target, found in zip(split.targets, hypotheses, strict=True)]
    return {figure: np.array([one[figure] for one in counts], np.float64) for figure in task.FIGURES}


class Padding:
    """Makes batches of at most three padded lengths: the longest of all splits, its half and its quarter."""

    def __init__(self, data: Mapping[str, Sequences], vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        longest = max(x.shape[1] for split in data.values() for x in split.features)
        self.sizes = sorted({-(-longest // 4), -(-longest // 2), longest})
        self.symbols = max(1, *(len(target) for split in data.values() for target in split.targets))

    def ids(self, split: Sequences) -> list[np.ndarray]:
        return [self.vocabulary.encode(target) for target in split.targets]

    def epochs(self, split: Sequences, batch: int, seed: int) -> Iterator[Batch]:
        """Yields batches without end; each epoch has every utterance once, in a new order."""
        random = np.random.default_rng(seed)
        while True:
            groups = list(self.grouped(split, random.permutation(len(split.keys)), batch))
            for number in random.permutation(len(groups)):
                rows, size = groups[number]
                yield self.batch(split, rows, size, batch)

    def in_order(self, split: Sequences, batch: int) -> Iterator[tuple[np.ndarray, Batch]]:
        """Yields (utterances, batch) with every utterance once."""
        for rows, size in self.grouped(split, np.arange(len(split.keys)), batch):
            yield rows, self.batch(split, rows, size, batch)

    def grouped(self, split: Sequences, order: np.ndarray, batch: int) -> Iterator[tuple[np.ndarray, int]]:
        """Yields groups of utterances with one padded length: (rows, length)."""
        lengths = np.array([split.features[i].shape[1] for i in order])
        for size, before in zip(self.sizes, [0, *self.sizes], strict=False):
            rows = order[(lengths > before) & (lengths <= size)]
            yield from ((rows[i : i + batch], size) for i in range(0, len(rows), batch))

    def batch(self, split: Sequences, rows: np.ndarray, size: int, batch: int) -> Batch:
        """Returns a batch of `batch` rows, padded by filler rows. Shapes: see Recogniser.step."""
        layers, _, width = split.features[0].shape
        x, ids = np.zeros((batch, layers, size, width), np.float32), np.zeros((batch, self.symbols), np.int32)
        lengths, id_lengths = np.ones(batch, np.int32), np.zeros(batch, np.int32)
        for row, i in enumerate(rows):
            features, numbers = split.features[i], self.vocabulary.encode(split.targets[i])
            x[row, :, : features.shape[1]], ids[row, : len(numbers)] = features, numbers
            lengths[row], id_lengths[row] = features.shape[1], len(numbers)
        weight = (np.arange(batch) < len(rows)).astype(np.float32)
        return {"x": x, "lengths": lengths, "ids": ids, "id_lengths": id_lengths, "weight": weight}


def needed(ids: np.ndarray) -> int:
    """Returns the number of frames that CTC needs for a text."""
    return len(ids) + int((ids[1:] == ids[:-1]).sum())
