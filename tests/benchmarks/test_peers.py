"""The peers that benchmarks/gpu.py measures against: same sizes as ours, and they train."""

import importlib
import math
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from toys import CONFIGS  # noqa: E402

from jepa_speech.objectives.build import build  # noqa: E402
from jepa_speech.train.configfile import load_config  # noqa: E402

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def peers():
    """benchmarks/ on the path, as its scripts have it; one thread, for tests share the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module
    torch.set_num_threads(threads)
    sys.path.remove(str(BENCHMARKS))


SYSTEMS = ("wav2vec2", "hubert", "wavlm", "data2vec", "dinosr")
TOY = {
    "encoder": {
        "channels": 16,
        "width": 32,
        "blocks": 2,
        "heads": 4,
        "hidden": 64,
        "position_groups": 4,
    },
    "objective": {"projection": 12, "top_blocks": 2, "distractors": 7},
    "quantizer": {"codes": 6, "width": 10},
}


def our_parameters(system: str, toy: bool) -> int:
    config = load_config(str(CONFIGS / f"{system}.py"), [])
    config.anchor.update(components=8 if toy else 500, features="logmel", normalize="level")
    if toy:
        for section, values in TOY.items():
            present = {key: value for key, value in values.items() if key in config.get(section, {})}
            config.get(section, {}).update(present)
        if config.encoder.positions == "conv":
            config.encoder.position_kernel = 16
    params, _ = jax.eval_shape(build(config).init, jax.random.PRNGKey(0))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(("system", "toy"), [*((system, False) for system in SYSTEMS), ("hubert", True)])
def test_a_published_peer_has_as_many_parameters_as_ours(peers, system, toy):
    with torch.device("meta"):
        module = peers("peers.published").assemble(system, toy)
    assert sum(p.numel() for p in module.parameters() if p.requires_grad) == our_parameters(system, toy)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_published_peer_trains(peers, system):
    peer = peers("peers.published").make(system, rows=2, seconds=1.5, device="cpu", compile=False, toy=True)
    losses = [peer.step().item() for _ in range(12)]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    facts = peer.describe()
    assert facts["torch"] == torch.__version__ and facts["rows"] == 2 and facts["dropout"]["hidden_dropout"] == 0.1


def test_what_is_not_trained_follows(peers):
    """The teacher goes a thousandth of the way to the student, codebooks move, and the teacher has no dropout."""
    peer = peers("peers.published").make("dinosr", rows=2, seconds=1.0, device="cpu", compile=False, toy=True)
    student, teacher = (list(part.parameters()) for part in (peer.module.model.encoder.layers, peer.module.teacher))
    before, sums = [p.clone() for p in teacher], peer.module.sums.clone()
    peer.step()
    for old, now, target in zip(before, teacher, student, strict=True):
        torch.testing.assert_close(now, old + (target - old) * (1 - 0.999 - 0.0009 / 30_000), rtol=0, atol=1e-7)
    assert any((old - now).abs().max() > 0 for old, now in zip(before, teacher, strict=True))
    assert (peer.module.sums != sums).any()
    modules = peer.module.named_modules()
    drops = {name: part.training for name, part in modules if isinstance(part, torch.nn.Dropout)}
    assert drops and all(on != name.startswith("teacher") for name, on in drops.items())


def test_codebooks_move_as_ours(peers):
    """Codes, sums and counts after one update, against objectives/dinosr.py's rule written out."""
    published = peers("peers.published")
    torch.manual_seed(0)
    codes = published.Codes(published.build(published.SYSTEMS["dinosr"], toy=True), 0.8, top=2, codes=5)
    x = torch.randn(2, 9, 32)
    sums, counts = codes.sums.clone(), codes.counts.clone()
    got = codes.assign(x)
    for k in range(2):
        expected = ((x[k][:, None] - sums[k] / counts[k][:, None]) ** 2).sum(-1).argmin(1)
        assert (got[k] == expected).all()
        for v in range(5):
            chosen = x[k][expected == v]
            used = len(chosen) > 0
            n = 0.9 * counts[k, v] + 0.1 * len(chosen) if used else counts[k, v]
            s = 0.9 * sums[k, v] + 0.1 * chosen.sum(0) if used else sums[k, v]
            torch.testing.assert_close(codes.counts[k, v], n)
            torch.testing.assert_close(codes.sums[k, v], s)


def test_masks_hide_spans_equally_often(peers):
    masks = peers("peers.masks")
    torch.manual_seed(0)
    mask, hidden = masks.span_mask(64, 400, 0.8, 10, torch.device("cpu"))
    count = masks.hidden_count(400, 0.8, 10)
    assert (mask.sum(1) == count).all() and hidden.shape == (64, count)
    assert 0.55 < count / 400 < 0.59  # fairseq's spans hide 57% of 749 frames
    assert (torch.zeros_like(mask).scatter(1, hidden, True) == mask).all()
    assert (hidden.diff(dim=1) > 0).all()
    runs = (mask[:, 1:] & ~mask[:, :-1]).sum(1).float().mean() + 1  # hidden by frame there would be 99 of them
    assert runs < 35
    others = masks.distractors(3, 20, 50, torch.device("cpu"))
    assert others.shape == (3, 20, 50) and others.min() == 0 and others.max() == 19
    assert (others != torch.arange(20)[:, None]).all()
