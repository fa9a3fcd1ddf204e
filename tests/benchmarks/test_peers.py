"""The peers that benchmarks/gpu.py measures against: same sizes as ours, and they train."""

import importlib
import math
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from support import released as exported  # noqa: E402
from support.toys import CONFIGS  # noqa: E402

from jepa_speech.features.spectral import log_mel  # noqa: E402
from jepa_speech.nn.module import Pure  # noqa: E402
from jepa_speech.nn.released import ReleasedConfig, ReleasedEncoder, ReleasedPredictor  # noqa: E402
from jepa_speech.nn.released_head import ReleasedHead  # noqa: E402
from jepa_speech.objectives import build, parsed  # noqa: E402
from jepa_speech.training.configfile import config_dict  # noqa: E402

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


def size(module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def our_parameters(system: str, toy: bool = False) -> int:
    config = config_dict(str(CONFIGS / f"{system}.py"), [])
    components = 1024 if system == "gmm_jepa_released" else 500
    config.anchor.update(components=8 if toy else components, features="logmel", normalize="level")
    if toy:
        for section, values in TOY.items():
            present = {key: value for key, value in values.items() if key in config.get(section, {})}
            config.get(section, {}).update(present)
        if config.encoder.positions == "conv":
            config.encoder.position_kernel = 16
    params, _ = jax.eval_shape(build(parsed(config)).init, jax.random.PRNGKey(0))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(("system", "toy"), [*((system, False) for system in SYSTEMS), ("hubert", True)])
def test_a_published_peer_has_as_many_parameters_as_ours(peers, system, toy):
    with torch.device("meta"):
        module = peers("peers.published").assemble(system, toy)
    assert size(module) == our_parameters(system, toy)


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


def test_exact_masks_hide_the_ratio_in_spans(peers):
    torch.manual_seed(0)
    mask = peers("peers.masks").exact_mask(64, 400, (0.4, 0.65), (10, 25), torch.device("cpu"))
    ratio = mask.float().mean(1)
    assert 0.39 < ratio.min() < 0.45 and 0.6 < ratio.max() < 0.66
    runs = (mask[:, 1:] & ~mask[:, :-1]).sum(1).float().mean() + 1
    assert runs < 16  # spans that do not touch would be 12


def test_features_are_transformers_hidden_states(peers):
    extract = peers("peers.features").make(rows=2, seconds=1.0, device="cpu", toy=True)
    with torch.no_grad():
        expected = extract.model(extract.audio, output_hidden_states=True).hidden_states
    layers = extract()
    assert len(layers) == len(expected) == 3
    for ours, theirs in zip(layers, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert extract.describe()["precision"] == "float32"


def carry(module, params) -> None:
    """Our parameters into a torch module with the same names: kernels are transposed, scales of norms are weights."""
    leaves = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in flat(params)}
    state = {}
    for name in module.state_dict():
        ours = name.replace(".depthwise.weight", ".taps").replace(".depthwise.bias", ".bias")
        ours = ours.replace(".weight", ".kernel" if ours.replace(".weight", ".kernel") in leaves else ".scale")
        array = np.array(leaves.pop(ours))
        shape = module.state_dict()[name].shape
        array = array.T if ours.endswith((".kernel", ".taps")) else array  # (kernel, in, out) -> (out, in, kernel)
        assert array.size == math.prod(shape), (name, array.shape, shape)
        state[name] = torch.from_numpy(np.ascontiguousarray(array)).reshape(shape)
    assert not leaves
    module.load_state_dict(state)


def flat(params):
    return jax.tree_util.tree_leaves_with_path(params)


@pytest.mark.parametrize("sdpa", [True, False])
def test_the_released_peer_computes_what_ours_does(peers, sdpa):
    """Encoder, predictor, head and both losses, with our parameters carried over."""
    model = peers("peers.released_model")
    released = peers("peers.released")
    sizes = model.Sizes(**released.TOY, sdpa=sdpa)
    options = {key: value for key, value in released.TOY.items() if key != "clusters"}
    config = ReleasedConfig(**options, relative_positions=True)
    encoder = Pure(lambda rngs: ReleasedEncoder(config, rngs))
    predictor = Pure(lambda rngs: ReleasedPredictor(config, rngs))
    head = Pure(lambda rngs: ReleasedHead(config.width, sizes.clusters, 0.1, rngs))
    rng = np.random.default_rng(0)
    shapes = [jax.eval_shape(part.init, jax.random.PRNGKey(0)) for part in (encoder, predictor, head)]

    def draw(path, leaf):  # nothing is 0 or 1, and positions count
        fan_in = 4 * math.prod(leaf.shape[:-1]) if "kernel" in str(path) else 4
        return (rng.normal(size=leaf.shape) / fan_in**0.5).astype(np.float32)

    noisy = jax.tree_util.tree_map_with_path(draw, shapes)

    module = released.Released(sizes).eval()
    for own, params in zip((module.encoder, module.predictor, module.head), noisy, strict=True):
        carry(own, params)
    wave = rng.normal(size=(2, 40_000)).astype(np.float32)  # 124 frames: reaches the logarithmic buckets
    mask = rng.random((2, model.frames(40_000))) < 0.5

    @jax.jit
    def ours_of(encoding, predicting, heading):
        z = encoder.apply(encoding, wave, jnp.full(2, 40_000)).z
        return z, predictor.apply(predicting, z, jnp.asarray(mask), None), head.apply(heading, z)

    z, prediction, logits = ours_of(*noisy)
    with torch.no_grad():
        their_z = module.encoder(torch.from_numpy(wave))
        theirs = their_z, module.predictor(their_z, torch.from_numpy(mask)), module.head(their_z)
    for ours, other in zip((z, prediction, logits), theirs, strict=True):
        np.testing.assert_allclose(other, ours, rtol=0, atol=1e-4)

    q = rng.dirichlet(np.ones(sizes.clusters), mask.shape).astype(np.float32)
    target = rng.normal(size=z.shape).astype(np.float32)
    expected = exported.losses(
        jnp.swapaxes(prediction, 1, 2), target.swapaxes(1, 2), logits, q.reshape(-1, sizes.clusters), 1 - mask
    )
    jepa, cluster = released.losses(
        theirs[1], torch.from_numpy(target), theirs[2], torch.from_numpy(q), torch.from_numpy(mask)
    )
    np.testing.assert_allclose([jepa, cluster], [expected["jepa"], expected["cluster"]], rtol=1e-4)


def test_the_released_peer_has_as_many_parameters_as_ours(peers):
    with torch.device("meta"):
        module = peers("peers.released").Released(peers("peers.released_model").Sizes())
    assert size(module) == our_parameters("gmm_jepa_released")


@pytest.mark.parametrize("posteriors", ["stored", "broadcast"])
def test_the_released_peer_trains(peers, posteriors):
    sizes = {"rows": 2, "seconds": 1.0, "device": "cpu", "compile": False, "toy": True}
    peer = peers("peers.released").make("gmm_jepa_released", **sizes, posteriors=posteriors)
    teacher = [p.clone() for p in peer.module.teacher.parameters()]
    losses = [peer.step().item() for _ in range(8)]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-2:]) < np.mean(losses[:2])
    assert any((old != now).any() for old, now in zip(teacher, peer.module.teacher.parameters(), strict=True))
    assert peer.describe()["posteriors"] == posteriors
    with pytest.raises(ValueError, match="posteriors=sparse"):
        peers("peers.released").make("gmm_jepa_released", **sizes, posteriors="sparse")


def test_broadcast_posteriors_are_the_released_ones(peers):
    """Chunks put together in order, over our log-mel in the release's framing: centred on multiples of 320 samples."""
    released = peers("peers.released")
    torch.manual_seed(0)
    mixture = released.Mixture(100, compile=False)  # components: 64 and 36; frames: 500 and 142
    wave = torch.randn(2, 320 * 321)
    x = mixture.log_mel(wave)
    np.testing.assert_allclose(x[:, 1:-1], log_mel(jnp.asarray(wave[:, 120:].numpy())), rtol=0, atol=1e-3)
    assert x.shape == (2, 322, 80)
    gmm = (part.numpy() for part in (mixture.means, mixture.covariances, mixture.weights))
    expected = exported.posteriors(*gmm, x[:, :321].swapaxes(1, 2).numpy())
    np.testing.assert_allclose(mixture(wave, 321).reshape(642, 100), expected, rtol=0, atol=1e-4)


def test_spidr_is_at_our_sizes_and_trains(peers):
    pytest.importorskip("spidr")
    peer = peers("peers.spidr_dinosr").make("dinosr", rows=2, seconds=1.0, device="cpu", compile=False, toy=True)
    losses = [peer.step().item() for _ in range(6)]
    assert np.mean(losses[-2:]) < np.mean(losses[:2])
    assert size(peer.module) == size(peers("peers.published").assemble("dinosr", toy=True))
