"""Time of the Gaussian mixture beside scikit-learn's, on the same cores in one run.

    python benchmarks/anchors.py [--repeats 9] [--threads 2]

K = 1024 components, D = 80 features, 200,000 frames of random speech-like clusters: one iteration of EM (statistics and
new parameters), and the posteriors of 50,000 of the frames. Each repeat times both programs, one after the other, so
that a varying load affects both. The table has the medians of the repeats' ratios, in wall time and in processor time.
Load hardly affects processor time if --threads is 1. Writes benchmarks/anchors.json and anchors.md.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np

HERE = Path(__file__).parent
GOALS = {"one EM iteration": 4.0, "posteriors": 6.0}


class Size(NamedTuple):
    """components, dim: K and D. posteriors: how many of the frames they are computed of."""

    components: int = 1024
    dim: int = 80
    frames: int = 200_000
    posteriors: int = 50_000


def data(size: Size, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Standardised frames (N, D) float32 in overlapping clusters, and means (K, D) drawn from them."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(size.components // 4, size.dim))
    z = centres[random.integers(len(centres), size=size.frames)] + random.normal(size=(size.frames, size.dim))
    z = ((z - z.mean(0)) / z.std(0)).astype(np.float32)
    return z, z[random.choice(size.frames, size.components, replace=False)].astype(np.float64)


def ours(z: np.ndarray, means: np.ndarray, posteriors: int) -> dict[str, Callable[[], object]]:
    import jax

    from jepa_speech.anchors import em, gmm
    from jepa_speech.anchors.frames import batches

    parameters = em.Parameters(np.full(len(means), 1 / len(means)), means, np.ones_like(means))
    arrays, jitted = parameters.arrays(), jax.jit(gmm.posteriors)

    def all_posteriors() -> list[np.ndarray]:
        begun = [jitted(arrays, part) for part, _ in batches(z[:posteriors])]  # the next is cut while one is computed
        return [np.asarray(part) for part in begun]

    return {
        "one EM iteration": lambda: em.maximisation(em.expectation(parameters, [z])),
        "posteriors": all_posteriors,
    }


def theirs(z: np.ndarray, means: np.ndarray, posteriors: int) -> dict[str, Callable[[], object]]:
    """What GaussianMixture.fit does in an iteration, and predict_proba; float32 frames, as they are."""
    from sklearn.mixture import GaussianMixture

    components, dim = means.shape
    mixture = GaussianMixture(components, covariance_type="diag", reg_covar=0)
    mixture.weights_, mixture.means_ = np.full(components, 1 / components), means
    mixture.covariances_ = mixture.precisions_cholesky_ = np.ones_like(means)
    mixture.n_features_in_ = dim

    def iteration() -> None:
        _, log_responsibilities = mixture._e_step(z)
        kept = mixture.means_
        mixture._m_step(z, log_responsibilities)
        mixture.weights_, mixture.means_ = np.full(components, 1 / components), kept
        mixture.covariances_ = mixture.precisions_cholesky_ = np.ones_like(means)

    return {"one EM iteration": iteration, "posteriors": lambda: mixture.predict_proba(z[:posteriors])}


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    """By the clock, and of processor time over all threads."""
    began = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - began[0], time.process_time() - began[1]


def measure(repeats: int) -> dict[str, dict[str, object]]:
    z, means = data(size := Size())
    mine, other, results = ours(z, means, size.posteriors), theirs(z, means, size.posteriors), {}
    for what, goal in GOALS.items():
        mine[what]()  # compiles
        pairs = np.array([(seconds(mine[what]), seconds(other[what])) for _ in range(repeats)])  # (R, 2, 2)
        ratios, median = pairs[:, 1] / pairs[:, 0], np.median(pairs, axis=0)
        results[what] = {
            "jepa_speech_s": float(median[0, 0]),
            "scikit_learn_s": float(median[1, 0]),
            "ratio": float(np.median(ratios[:, 0])),
            "processor_ratio": float(np.median(ratios[:, 1])),
            "ratios": ratios[:, 0].round(2).tolist(),
            "goal": goal,
        }
        print(what, results[what], flush=True)
    return results


def table(report: dict) -> str:
    lines = [
        "| K = 1024, D = 80 | this program | scikit-learn | times as fast | the same in processor time | goal |",
        "|---|---|---|---|---|---|",
    ]
    frames = {"one EM iteration": Size().frames, "posteriors": Size().posteriors}
    for what, row in report["results"].items():
        lines.append(
            f"| {what}, {frames[what]:,} frames | {row['jepa_speech_s']:.2f} s | {row['scikit_learn_s']:.2f} s | "
            f"{row['ratio']:.1f} | {row['processor_ratio']:.1f} | {row['goal']:g} |"
        )
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    load, threads = " to ".join(f"{x:.1f}" for x in report["load"]), report["threads"]
    return "\n".join(lines) + (
        f"\n\nMedians of {report['repeats']} paired repeats, {threads} threads for each on {report['cores']} cores "
        f"({report['machine']}), load {load} (this run's own threads included); {versions}.\n"
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--repeats", type=int, default=9)
    options.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="for each of the two")
    args = options.parse_args()
    # Before NumPy's BLAS and jax wake: the same number of threads for both.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    from threadpoolctl import threadpool_limits

    from jepa_speech.files import write_json, write_text

    load = [os.getloadavg()[0]]
    with threadpool_limits(args.threads):
        results = measure(args.repeats)
    report = {
        "results": results,
        "repeats": args.repeats,
        "threads": args.threads,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "load": [*load, os.getloadavg()[0]],
        "versions": {name: version(name) for name in ("jax", "scikit-learn", "numpy")},
    }
    write_json(HERE / "anchors.json", report)
    write_text(HERE / "anchors.md", table(report))
    print(table(report))


if __name__ == "__main__":
    main()
