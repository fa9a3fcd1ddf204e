"""A killed fit resumes to exactly the same anchor."""

from dataclasses import replace

import numpy as np
import pytest
from anchors.test_em import blobs

from jepa_speech.anchors import em, lloyd, unfinished
from jepa_speech.anchors.unfinished import Unfinished
from jepa_speech.errors import UserError

SETTINGS = {
    "gmm": (em, em.Options(6, iterations=5, tolerance=0)),
    "lloyd": (lloyd, lloyd.Options(6, "lloyd", iterations=4, tolerance=0)),
    "minibatch": (lloyd, lloyd.Options(6, "minibatch", iterations=6, tolerance=0, batch=150)),
}


class Killed(Exception):
    pass


class Dying(list):
    """Chunks, of which only so many can be read."""

    left = 10**9

    def __getitem__(self, number):
        self.left -= 1
        if self.left < 0:
            raise Killed
        return super().__getitem__(number)


@pytest.fixture(autouse=True)
def after_every_chunk(monkeypatch):
    monkeypatch.setattr(unfinished, "SECONDS", 0.0)


def numbers(fit):
    parameters = getattr(fit, "parameters", fit)
    return [value for value in vars(parameters).values() if isinstance(value, np.ndarray)], fit.history


def run(kind, path, left=10**9, **options):
    z = blobs(count=1_000)
    chunks = Dying([z[start : start + 300] for start in range(0, 1_000, 300)])
    chunks.left = left
    module, settings = SETTINGS[kind]
    heard = []
    keeper = Unfinished(path, {"kind": kind} | options) if path else None
    fit = module.fit(chunks, z[:400], z[:50], settings, lambda fit: heard.append(fit.history[-1]["pass"]), keeper)
    return numbers(fit), heard, 10**9 - chunks.left


@pytest.mark.parametrize("kind", SETTINGS)
def test_it_goes_on_to_the_same_bits(tmp_path, kind):
    path = tmp_path / ".fit.npz.unfinished"
    (arrays, history), _, reads = run(kind, None)
    for left in (1, 3, 6, 2, 0):  # killed again and again, in the middle of a pass and at its end
        with pytest.raises(Killed):
            run(kind, path, left)
    (again, rows), heard, more = run(kind, path)
    for one, other in zip(arrays, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert rows == history
    assert more < reads - 6  # what was done is not done again
    assert heard[-1] == history[-1]["pass"] and len(heard) < len(history)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_other_options_are_refused(tmp_path):
    path = tmp_path / "fit"
    with pytest.raises(Killed):
        run("gmm", path, 3)
    with pytest.raises(
        UserError, match=r"fit: this unfinished fit has kind = gmm, not lloyd: resume it with that value, or"
    ):
        run("lloyd", path)
    with pytest.raises(UserError, match="has seed = None, not 3"):
        Unfinished(path, {"kind": "gmm", "--seed": 3}).load(lambda *_: None)
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b""):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=r"damaged.*; remove the file to start again"):
            run("gmm", path)
    path.write_bytes(whole)
    arrays = dict(np.load(path))
    for change in (
        {"means": arrays["means"][:, 1:]},
        {"means": np.full_like(arrays["means"], np.nan)},
        {"rest": np.array("{}")},
        {"rest": np.array("[" * 9_999)},
        {"options": np.array("3")},
        {"weights": np.array("x")},
    ):
        np.savez(path.with_suffix(".npz"), **(arrays | change))
        path.with_suffix(".npz").replace(path)
        with pytest.raises(UserError, match=f"^{path}: "):
            run("gmm", path)
    Unfinished(path, {}).remove()
    assert not path.exists()
    assert Unfinished(path, {}).load(lambda *_: 1) is None


def test_dead_components_are_seeded_alike_after_a_kill(tmp_path, monkeypatch):
    z = blobs(clusters=4)
    parameters = em.Parameters(np.full(4, 0.25), z[:4].astype(np.float64), np.ones((4, z.shape[1])))
    parameters.means[2] = 100.0

    def fit(left, keeper):
        monkeypatch.setattr(em, "initialise", lambda *_: replace(parameters, means=parameters.means.copy()))
        chunks = Dying([z[:1_500], z[1_500:]])
        chunks.left = left
        return em.fit(chunks, z, z[:9], em.Options(4, iterations=4), unfinished=keeper)

    whole = fit(10**9, None)
    assert whole.reseeded == 1
    keeper = Unfinished(tmp_path / "fit", {})
    with pytest.raises(Killed):
        fit(3, keeper)
    again = fit(10**9, keeper)
    np.testing.assert_array_equal(again.parameters.means, whole.parameters.means)
    assert (again.reseeded, again.history) == (1, whole.history)
