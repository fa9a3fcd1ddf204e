"""ABX against a slow plain version, written from the definition, and against cases known by hand."""

import math
from collections import defaultdict

import numpy as np
import pytest

from jepa_speech.errors import UserError
from jepa_speech.probing import abx, discrimination, dtw
from jepa_speech.probing.discrimination import Recipe
from jepa_speech.probing.inputs import Sequences


def plain_distance(x, y):
    """Angles averaged along the cheapest path, by recursion over all paths."""

    def angle(a, b):
        return math.acos(max(-1.0, min(1.0, float(a @ b) / (np.linalg.norm(a) * np.linalg.norm(b))))) / math.pi

    def best(i, j):  # (cost, length) of the cheapest path to (i, j); of equal ones the diagonal, then (0, 1)
        here = angle(x[i], y[j])
        if i == j == 0:
            return here, 1
        steps = [(i - 1, j - 1), (i, j - 1), (i - 1, j)]
        cost, length = min((best(*step) for step in steps if min(step) >= 0), key=lambda found: found[0])
        return cost + here, length + 1

    cost, length = best(len(x) - 1, len(y) - 1)
    return cost / length


def plain_error(features, items, speakers):
    """items: (utterance, Item). The mean over phone pairs of the mean over speakers of the mean over contexts."""
    frames = [features[u][item.start : item.end] for u, item in items]
    cells = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for x, (_, of_x) in enumerate(items):
        for a, (_, of_a) in enumerate(items):
            for b, (_, of_b) in enumerate(items):
                alike = a != x and of_a.phone == of_x.phone != of_b.phone
                one_context = of_a.context == of_b.context == of_x.context
                voices = of_a.speaker == of_b.speaker and (of_a.speaker == of_x.speaker) == (speakers == "within")
                if alike and one_context and voices:
                    near, far = plain_distance(frames[a], frames[x]), plain_distance(frames[b], frames[x])
                    wrong = 0.5 if near == far else float(near > far)
                    cells[of_a.phone, of_b.phone][of_a.speaker, of_x.speaker][of_a.context].append(wrong)
    mean = lambda values: sum(values) / len(values)  # noqa: E731
    return mean([mean([mean([mean(c) for c in s.values()]) for s in pair.values()]) for pair in cells.values()])


@pytest.fixture(scope="module")
def split():
    """4 utterances of 2 speakers, some 9 items each, of 3 phones in 2 contexts."""
    rng, features, targets = np.random.default_rng(0), [], []
    for number in range(4):
        items, start = [], 0
        for _ in range(9):
            end = start + int(rng.integers(1, 4))
            context = ("P", "T") if rng.random() < 0.6 else ("S", "K")
            items.append(abx.Item(start, end, str(rng.choice(["AA", "IY", "UW"])), context, f"s{number % 2}"))
            start = end
        features.append(rng.normal(size=(2, start, 3)).astype(np.float32))
        targets.append(items)
    features[0][1, targets[0][0].start : targets[0][0].end] = features[2][1, :1]
    return Sequences(features, tuple(targets), tuple("abcd"))


@pytest.mark.parametrize("speakers", ["within", "across"])
def test_as_the_plain_version(split, speakers):
    found = discrimination.Split(split, Recipe(items=100, speakers=100))
    for layer in (0, 1):
        features = [x[layer] for x in split.features]
        items = [(u, item) for u, target in enumerate(split.targets) for item in target]
        value, without = found.error(layer, speakers)
        assert value == pytest.approx(plain_error(features, items, speakers), abs=1e-9)
        if layer == 0:
            left = [(u, item) for u, item in items if u != 2]
            assert without[2] == pytest.approx(plain_error(features, left, speakers), abs=1e-9)


def test_paths():
    rng = np.random.default_rng(1)
    x = [rng.normal(size=(t, 4)).astype(np.float32) for t in (1, 3, 4, 2, 4)]
    pairs = np.array([(0, 1), (1, 2), (3, 2), (2, 4), (4, 0)])
    plain = [plain_distance(x[i].astype(np.float64), x[j].astype(np.float64)) for i, j in pairs]
    np.testing.assert_allclose(dtw.distances(x, pairs), plain, atol=1e-6)
    np.testing.assert_allclose(dtw.distances([x[1], np.repeat(5 * x[1], 2, axis=0)], np.array([(0, 1)])), 0, atol=3e-4)
    square = np.array(
        [[[0.0, 1.0], [1.0, 0.0]], [[0.0, 0.2], [1.0, 0.4]]]
    )  # diagonal 0 of 2 steps; 0.6 of 3 or 0.4 of 2
    np.testing.assert_allclose(dtw.along_the_path(square, np.array([2, 2]), np.array([2, 2])), [0.0, 0.2])


def test_known_errors():
    """Phones that are axes of their own are never mistaken, unless speakers swap them; equal frames are chance."""
    target = [abx.Item(i, i + 1, phone, ("P", "T"), "s0") for i, phone in enumerate(["AA", "AA", "IY", "IY"])]
    other = [item._replace(speaker="s1") for item in target]
    axes = np.eye(2, dtype=np.float32)[[0, 0, 1, 1]]
    features = [np.stack([axes, np.ones_like(axes), axes[::-1]]), np.stack([axes, np.ones_like(axes), axes])]
    found = discrimination.Split(Sequences(features, (target, other), ("a", "b")), discrimination.RECIPE)
    assert [found.error(layer, "within")[0] for layer in range(3)] == [0.0, 0.5, 0.0]
    assert [found.error(layer, "across")[0] for layer in range(3)] == [0.0, 0.5, 1.0]


def test_groups_are_cut_to_a_size(split):
    few = discrimination.Split(split, Recipe(items=2, speakers=1))
    assert max(len(part) for cells in few.cells.values() for cell in cells for part in (cell.a, cell.b, cell.x)) == 2
    again = discrimination.Split(split, Recipe(items=2, speakers=1))
    assert few.error(0, "across")[0] == again.error(0, "across")[0]


def test_items_of_zerospeech_and_their_frames(tmp_path):
    """Frame t has its middle at (t + 1/2) / 50 s, and an item holds the frames whose middle it holds."""
    assert abx.frames_of(0.0, 0.1) == (0, 5)
    assert abx.frames_of(0.01, 0.09) == (0, 5)  # the middles of frames 0 and 4
    assert abx.frames_of(0.011, 0.089) == (1, 4)
    path = tmp_path / "abx.test.item"
    path.write_text("#file onset offset #phone prev-phone next-phone speaker\n6295-1 0.4625 0.5325 L N D 6295\n")
    assert abx.read_items(path) == {"6295-1": [abx.Item(23, 27, "L", ("N", "D"), "6295")]}
    path.write_text("6295-1 0.4625 late L N D 6295\n")
    with pytest.raises(UserError, match=r"abx\.test\.item:1"):
        abx.read_items(path)


def test_triphones_do_not_reach_over_silence():
    segments = [
        ("P", 0.0, 0.1),
        ("AA", 0.1, 0.2),
        ("T", 0.2, 0.3),
        ("SIL", 0.3, 0.4),
        ("S", 0.4, 0.5),
        ("IY", 0.5, 0.6),
    ]
    assert abx.triphones(segments, "s0") == [abx.Item(0, 15, "AA", ("P", "T"), "s0")]
