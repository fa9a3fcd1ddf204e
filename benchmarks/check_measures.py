"""The measures that `check.py` times in one turn, of the jepa_speech in TREE: seconds by measure, in WORK/seconds.json.

PYTHONPATH=TREE python benchmarks/check_measures.py TREE WORK
"""

import json
import statistics
import sys
import traceback
from collections.abc import Callable
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path

import jax
import numpy as np

import jepa_speech

REPEATS = 7

Timed = Callable[[Path], Callable[[], object]]  # folder to work in -> what is timed, warm


def step(objective: str, work: Path) -> Callable[[], object]:
    from rows import made

    config, mixture = made.config_of(f"smoke.py:{objective}", components=64), made.anchor(64)
    return partial(made.Stepper(config, made.batch(config, 4, 4.0, mixture), mixture).run, 2)


def posteriors(work: Path) -> Callable[[], object]:
    from rows import made

    from jepa_speech.anchors import gmm

    x = np.random.default_rng(0).normal(size=(2_048, 80)).astype(np.float32)
    arrays, compute = made.anchor(256).arrays(), jax.jit(gmm.posteriors)
    return lambda: [np.asarray(compute(arrays, x)) for _ in range(8)]


def extraction(work: Path) -> Callable[[], object]:
    """A small HuBERT: conv front-end of 128 channels, 2 blocks of width 256."""
    from rows import made

    from jepa_speech.nn.module import Pure
    from jepa_speech.nn.wav2vec2 import Wav2Vec2Config, Wav2Vec2Encoder

    config = Wav2Vec2Config(channels=128, width=256, blocks=2, heads=4, hidden=1024)
    encoder = Pure(lambda rngs: Wav2Vec2Encoder(config, "learned", rngs))
    params, wave = encoder.init(jax.random.PRNGKey(0)), made.waves(2, 64_000)
    encode = jax.jit(lambda params, wave: encoder.apply(params, wave, np.full(2, 64_000)).layers)
    return lambda: jax.block_until_ready(encode(params, wave))


def loading(work: Path) -> Callable[[], object]:
    """Batches of 16 s out of a store that this code has made."""
    from rows import made

    from jepa_speech.batches.batch_plan import Plan
    from jepa_speech.batches.pipeline import batches
    from jepa_speech.store.prepare import prepare
    from jepa_speech.store.store import Store

    prepare([made.recordings(work / "recordings", 20, (2.0, 6.0))], work / "store", "flac", workers=1)
    store = Store(work / "store")
    plan = Plan(store.samples, (2.0, 4.0), 16.0, seed=0)

    def read() -> None:
        with closing(batches(store, plan, frozenset({"mix"}), 0, 60)) as stream:
            for _ in islice(stream, 60):
                pass

    return read


MEASURES: dict[str, Timed] = {
    "train step, smoke gmm_jepa, 2 steps": partial(step, "gmm_jepa"),
    "train step, smoke hubert, 2 steps": partial(step, "hubert"),
    "posteriors, K = 256, 16,384 frames": posteriors,
    "features, small HuBERT, 8 s": extraction,
    "loader, 60 batches of 16 s": loading,
}


def main(tree: Path, work: Path) -> None:
    from rows import made
    from rows.race import seconds

    if not Path(jepa_speech.__file__).is_relative_to(tree):
        raise SystemExit(f"jepa_speech is {jepa_speech.__file__}, not of {tree}: PYTHONPATH must name that")
    made.CONFIGS = tree / "configs"
    found: dict[str, float | str] = {}
    for name, prepared in MEASURES.items():
        try:
            run = prepared(work)
            run()
            found[name] = statistics.median(seconds(run) for _ in range(REPEATS))
        except Exception as error:  # of another version's code, anything: check.py tells it
            traceback.print_exc()
            found[name] = f"{type(error).__name__}: {error}"
    (work / "seconds.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]))
