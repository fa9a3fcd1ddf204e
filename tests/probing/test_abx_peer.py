"""ABX against fastabx (PyPI, Python 3.12 and later): what version 0.9.0 found, and where it is installed, finds."""

import numpy as np
import pytest

from jepa_speech.probing import abx, discrimination
from jepa_speech.probing.discrimination import Recipe
from jepa_speech.probing.inputs import Sequences

HEADER = "#file onset offset #phone prev-phone next-phone speaker"
FOUND = {"within": 0.15835360810160637, "across": 0.15098049538210034}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Features of 12 utterances of 4 speakers as .npy, and items of 3 phones in 2 contexts at times off the grid."""
    folder, rng, lines = tmp_path_factory.mktemp("items"), np.random.default_rng(0), [HEADER]
    centres = {phone: rng.normal(size=8) for phone in ("AA", "IY", "UW")}
    for number in range(12):
        x, start = rng.normal(size=(110, 8)), 0.013
        while start < 2:
            end, phone = start + rng.uniform(0.05, 0.2), str(rng.choice(list(centres)))
            context = ("P T", "S K")[rng.integers(2)]
            x[int(50 * start) : int(50 * end) + 1] += 0.7 * centres[phone]
            lines.append(f"u{number} {start:.4f} {end:.4f} {phone} {context} s{number % 4}")
            start = end
        np.save(folder / f"u{number}.npy", x.astype(np.float32))
    (folder / "all.item").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("speakers", FOUND)
def test_as_fastabx_found(folder, speakers):
    items = abx.read_items(folder / "all.item")
    features = [np.load(folder / f"{name}.npy")[None] for name in items]
    split = discrimination.Split(Sequences(features, tuple(items.values()), tuple(items)), Recipe(10**6, 10**6))
    assert split.error(0, speakers)[0] == pytest.approx(FOUND[speakers], abs=1e-6)


@pytest.mark.parametrize("speakers", FOUND)
def test_fastabx_finds_it_still(folder, speakers):
    fastabx, torch = pytest.importorskip("fastabx"), pytest.importorskip("torch")
    everything = {"max_size_group": None, "max_x_across": None, "frequency": 50}
    files = {"extension": ".npy", "feature_maker": lambda path: torch.from_numpy(np.load(path))}
    found = fastabx.zerospeech_abx(folder / "all.item", folder, speaker=speakers, **everything, **files)
    assert found == pytest.approx(FOUND[speakers], abs=1e-6)
