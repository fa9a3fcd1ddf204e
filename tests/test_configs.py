"""Every file in configs/ builds, and its loss traces, at full size: shapes only, nothing is computed."""

import jax
import jax.numpy as jnp
import pytest
import toys

from jepa_speech.features.grid import HOP, WINDOW
from jepa_speech.objectives import build
from jepa_speech.train.configfile import load_config
from jepa_speech.train.state import count_params

NAMES = [path.stem for path in sorted(toys.CONFIGS.glob("*.py")) if path.stem != "base"]
VARIANTS = [*NAMES, "smoke.py:pure_jepa", "smoke.py:anchor_alone"]


def built(name: str):
    file, _, variant = name.partition(".py")
    config = load_config(str(toys.CONFIGS / f"{file}.py{variant}"), [])
    if config.objective.lambda_start:
        config.anchor.update(components=1024, features="logmel", normalize="level")
    return build(config)


@pytest.mark.parametrize("name", VARIANTS)
def test_config_builds_and_traces(name):
    objective = built(name)
    params, slow = jax.eval_shape(objective.init, jax.random.PRNGKey(0))
    samples, frames = 100 * HOP + WINDOW - HOP, 100
    batch = {
        "audio": ((2, samples), jnp.float32),
        "lengths": ((2,), jnp.int32),
        "record_id": ((2,), jnp.uint32),
        "epoch": ((2,), jnp.int32),
        "level": ((2,), jnp.float32),
        "weight": ((2,), jnp.float32),
        "mix": ((2, samples), jnp.float32),
        "mix_lengths": ((2,), jnp.int32),
        "mix_level": ((2,), jnp.float32),
        "anchor_ids": ((2, frames, 16), jnp.int32),
        "anchor_probs": ((2, frames, 16), jnp.float32),
    }
    batch = {key: jax.ShapeDtypeStruct(*value) for key, value in batch.items()}
    terms, _ = jax.eval_shape(objective.loss, params, slow, batch, jax.random.PRNGKey(0), 0)
    assert ("jepa" in terms) == objective.latent
    assert ("cluster" in terms) == (objective.targets is not None)
    assert all(term.total.shape == () and term.total.dtype == jnp.float32 for term in terms.values())


def test_parameters_of_the_published_size_and_of_the_small_one():
    """The clean encoder at the published width: 28.7M of the 43.2M that train; the small one 1.1M."""
    sizes = {}
    for name in ("gmm_jepa", "smoke"):
        params, _ = jax.eval_shape(built(name).init, jax.random.PRNGKey(0))
        sizes[name] = {part: count_params(tree) for part, tree in params.items()}
    assert sizes["gmm_jepa"] == {"encoder": 28_715_520, "predictor": 6_586_880, "head": 7_882_752}
    print(sizes["smoke"])
    assert sum(sizes["smoke"].values()) < 2e6
