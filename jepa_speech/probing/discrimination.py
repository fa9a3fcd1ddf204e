"""ABX discriminability: how often x is nearer to b than to a, where a and x are of one phone and b is of another.

All three have the same context (the phones before and after). Within speakers, all three are of one speaker; across
speakers, x is of another speaker than a and b. The error of a cell (phone pair, context, speakers) is the share of
triples with d(a, x) > d(b, x); ties count half. It is averaged over contexts, then speakers, then phone pairs (Schatz
et al. 2013; ZeroSpeech 2021, arXiv 2011.11588). Chance is 1/2.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from jepa_speech.errors import UserError
from jepa_speech.probing import bootstrap, dtw
from jepa_speech.probing.inputs import Sequences
from jepa_speech.probing.progress import QUIET, Bar

FORM = Sequences


@dataclass(frozen=True)
class Recipe:
    """Limits: most items of a group, and most speakers of x. Both are drawn with seed 0."""

    items: int = 10
    speakers: int = 5


RECIPE = Recipe()


class Cell(NamedTuple):
    """Triples a × b × x, given by item numbers (A,), (B,), (X,). Within speakers a and x are the same items."""

    phones: tuple[str, str]
    speakers: tuple[str, str]  # of a and b, of x
    context: tuple[str, str]
    a: np.ndarray
    b: np.ndarray
    x: np.ndarray


def evaluate(task: Any, data: Mapping[str, Sequences], recipe: Recipe, seed: int, bar: Bar = QUIET) -> dict[str, Any]:
    """Returns the results of one task (see evaluate.py). Targets are lists of abx.Item. Utterances are resampled."""
    splits = {split: Split(part, recipe) for split, part in data.items()}
    for split, part in splits.items():
        for speakers, cells in part.cells.items():
            if not cells:
                raise UserError(f"the {split} split has no pair of phones in one context {speakers} speakers")
    heads: dict[str, Any] = {}
    layers = data["test"].features[0].shape[0]
    with bar("distances in each layer", layers, "layer") as shown:
        for layer in range(layers):
            valid = splits["valid"].error(layer, "within")[0]
            figures = {}
            for speakers in ("within", "across"):
                counts = bootstrap.influences(*splits["test"].error(layer, speakers))
                figures[f"ABX {speakers}"] = bootstrap.figure(data["test"].keys, counts, linear=True)
            heads[f"layer {layer}"] = {"valid": valid, "figures": figures}
            shown.update()
    return {
        "figures": {"ABX within": "lower", "ABX across": "lower"},
        "chosen": min(heads, key=lambda name: heads[name]["valid"]),
        "heads": heads,
        "chance": 0.5,
        "sizes": {split: sum(map(len, part.cells.values())) for split, part in splits.items()},
    }


class Split:
    """The items and cells of a split, within and across speakers."""

    def __init__(self, data: Sequences, recipe: Recipe) -> None:
        self.data = data
        found = [(u, item) for u, items in enumerate(data.targets) for item in items]
        found = [(u, item) for u, item in found if item.start < min(item.end, data.features[u].shape[1])]
        self.items = [item for _, item in found]
        self.owners = np.array([u for u, _ in found])
        groups = grouped(self.items, recipe)
        self.cells = {"within": list(within(groups)), "across": list(across(groups, recipe))}

    def error(self, layer: int, speakers: str) -> tuple[float, np.ndarray]:
        """Returns the ABX error, and its values without each of the utterances (U,)."""
        cells = self.cells[speakers]
        every = [(i, x) for cell in cells for x in cell.x for i in (*cell.a, *cell.b) if i != x]
        pairs = np.unique(np.sort(np.array(every), axis=1), axis=0)
        features = [x[layer] for x in self.data.features]  # (T, D) each
        frames = [features[u][item.start : item.end] for u, item in zip(self.owners, self.items, strict=True)]
        matrix = dict(zip(map(tuple, pairs.tolist()), dtw.distances(frames, pairs), strict=True))
        wrong = [triples(cell, matrix) for cell in cells]
        values = np.array([np.nanmean(errors) for errors in wrong])
        mean = Average(cells)
        changes: list[list[tuple[int, float]]] = [[] for _ in self.data.keys]
        for number, (cell, errors) in enumerate(zip(cells, wrong, strict=True)):
            for u, value in without_each(errors, *(self.owners[part] for part in (cell.a, cell.b, cell.x))):
                changes[u].append((number, value))
        without = np.full(len(changes), mean(values))
        for u, changed in enumerate(changes):
            if changed:
                there, new = values.copy(), np.array([value for _, value in changed])
                there[[number for number, _ in changed]] = new
                without[u] = mean(there) if np.isfinite(there).any() else without[u]
        return float(mean(values)), without


Groups = dict[tuple[str, str], dict[str, dict[str, np.ndarray]]]


def grouped(items: Sequence[Any], recipe: Recipe) -> Groups:
    """Returns context -> speaker -> phone -> item numbers, at most recipe.items of them."""
    groups: dict = {}
    for number, item in enumerate(items):
        groups.setdefault(item.context, {}).setdefault(item.speaker, {}).setdefault(item.phone, []).append(number)
    generator = np.random.default_rng(0)
    for speakers in groups.values():
        for phones in speakers.values():
            for phone, numbers in phones.items():
                phones[phone] = np.sort(generator.permutation(numbers)[: recipe.items])
    return groups


def within(groups: Groups) -> Iterator[Cell]:
    for context, speakers in groups.items():
        for speaker, phones in speakers.items():
            for first, a in phones.items():
                for second, b in phones.items():
                    if first != second and len(a) > 1:
                        yield Cell((first, second), (speaker, speaker), context, a, b, a)


def across(groups: Groups, recipe: Recipe) -> Iterator[Cell]:
    generator = np.random.default_rng(0)
    for context, speakers in groups.items():
        for speaker, phones in speakers.items():
            for first, a in phones.items():
                for second, b in phones.items():
                    others = [s for s in speakers if s != speaker and first in speakers[s]]
                    if first != second and others:
                        for other in generator.permutation(others)[: recipe.speakers]:
                            yield Cell((first, second), (speaker, str(other)), context, a, b, speakers[other][first])


def triples(cell: Cell, matrix: Mapping[tuple[int, int], float]) -> np.ndarray:
    """Returns errors (A, B, X): 1 where b is nearer to x than a is, 1/2 for ties, NaN where a is x itself."""

    def to_x(items: np.ndarray) -> np.ndarray:
        pairs = [[(min(i, x), max(i, x)) for x in cell.x.tolist()] for i in items.tolist()]
        return np.array([[matrix.get(pair, np.nan) for pair in row] for row in pairs])

    gap = to_x(cell.a)[:, None] - to_x(cell.b)[None]
    return np.where(np.isnan(gap), np.nan, 0.5 * (1 + np.sign(gap)))


def without_each(errors: np.ndarray, a: np.ndarray, b: np.ndarray, x: np.ndarray) -> Iterator[tuple[int, float]]:
    """Yields (utterance, mean of errors (A, B, X) without its items); NaN if no error is left."""
    for u in np.unique(np.concatenate([a, b, x])).tolist():
        left = errors[np.ix_(a != u, b != u, x != u)]
        known = np.isfinite(left)
        yield u, float(left[known].mean()) if known.any() else np.nan


class Average:
    """Averages cells over contexts, then speakers, then phone pairs. NaN cells are left out."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        conditions = sorted({(cell.phones, cell.speakers) for cell in cells})
        pairs = sorted({phones for phones, _ in conditions})
        number = {condition: i for i, condition in enumerate(conditions)}
        place = {phones: i for i, phones in enumerate(pairs)}
        self.levels = [
            np.array([number[cell.phones, cell.speakers] for cell in cells]),
            np.array([place[phones] for phones, _ in conditions]),
        ]

    def __call__(self, values: np.ndarray) -> float:
        for groups in self.levels:
            known = np.isfinite(values)
            count = np.bincount(groups[known], minlength=groups.max() + 1)
            total = np.bincount(groups[known], values[known], minlength=groups.max() + 1)
            values = np.where(count, total / np.maximum(count, 1), np.nan)
        return float(np.nanmean(values))
