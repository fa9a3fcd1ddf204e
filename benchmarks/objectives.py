"""Every objective at the size of configs/smoke.py on real speech: held-out loss beside a trivial one, and phones.

    python benchmarks/objectives.py --data SPEECH --work runs/phones [--only hubert wavlm]

SPEECH is as in benchmarks/phones.py, and you may use the same work folder. The held-out loss is that of
librispeech/valid, whose speakers are in no training recording. Every step is a jepa-speech command in a process of its
own. Finished steps are not repeated. Writes benchmarks/objectives.json and benchmarks/objectives.md.
"""

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from phones import CONFIG, HERE, prepare, probe, verb

from jepa_speech.features.targets import TARGETS as PASE_TARGETS
from jepa_speech.files import read_json, write_json, write_text
from jepa_speech.probing import evaluate

Figures = dict[str, float]
ANCHORED = ("gmm_jepa", "hubert", "wavlm")  # these are to beat their own random init, too
# w2v-BERT's ablation, narrower and five times as long: the collapse comes slowly.
ABLATION = {"w2v_bert_narrow-0": 1.0, "w2v_bert_narrow_without_contrastive-0": 0.0}
NARROW = {
    "data.buckets": 1.0,
    "data.batch_seconds": 6,
    "encoder.width": 32,
    "encoder.heads": 2,
    "encoder.hidden": 64,
    "encoder.kernel": 3,
    "objective.distractors": 8,
    "optim.learning_rate": 3e-3,
    "train.steps": 4000,
    "train.checkpoint_every": 4000,
}
MINUS = ("minus log-mel", "minus own random init")


def unigram(r: Figures) -> tuple[float, float]:
    return r["cluster"], r["label_entropy"]


def mean_posterior(r: Figures) -> tuple[float, float]:
    return r["cluster"], r["label_entropy"] - r["posterior_entropy"]


def mean_target(r: Figures) -> tuple[float, float]:
    return r["regression"], r["target_variance"] * math.sqrt(128)


def worst_worker(r: Figures) -> tuple[float, float]:
    return max(value for name, value in r.items() if name in PASE_TARGETS), 1.0


class Row(NamedTuple):
    title: str
    anchor: str  # gmm, kmeans, or none
    losses: Callable[[Figures], tuple[float, float]]  # held out, and the trivial predictor's
    trivial: str  # what that predictor does
    collapse: str  # the figure that tells one,
    healthy: tuple[float, float]  # and where it has to be: a quarter of the codes or more, no target of variance 0, ...


TRAINED: dict[str, Row] = {
    "gmm_jepa": Row("GMM-anchored JEPA", "gmm", mean_posterior, "mean posterior", "effective_rank", (10, 128)),
    "sigreg_jepa": Row(
        "SIGReg JEPA",
        "",
        lambda r: (r["prediction"], r["target_variance"]),
        "mean target",
        "target_rank",
        (10, 64),
    ),
    "hubert": Row("HuBERT", "kmeans", unigram, "unigram entropy", "cluster_usage", (0.85, 1)),
    "wavlm": Row("WavLM", "kmeans", unigram, "unigram entropy", "cluster_usage", (0.85, 1)),
    "wav2vec2": Row(
        "wav2vec 2.0", "", lambda r: (r["contrastive"], math.log(51)), "log 51", "code_perplexity", (8, 32)
    ),
    "data2vec": Row("data2vec", "", mean_target, "mean target", "target_variance", (0.1, 1)),
    "data2vec2": Row("data2vec 2.0", "", mean_target, "mean target", "frontend_variance", (0.1, 2)),
    "dinosr": Row(
        "DinoSR",
        "",
        lambda r: (r["codes"], math.log(r["code_perplexity"])),
        "log code perplexity",
        "code_perplexity",
        (8, 32),
    ),
    "best_rq": Row(
        "BEST-RQ", "", lambda r: (r["codes"], r["label_entropy"]), "unigram entropy", "code_usage", (0.5, 1)
    ),
    "s_jepa": Row("S-JEPA, phase 2 alone", "", mean_posterior, "mean posterior", "mixture_usage", (0.5, 1)),
    "w2v_bert": Row("w2v-BERT", "", lambda r: (r["contrastive"], math.log(26)), "log 26", "code_perplexity", (16, 64)),
    "pase": Row("PASE", "", worst_worker, "mean, worst worker", "effective_rank", (10, 100)),
    "pase_plus": Row("PASE+", "", worst_worker, "mean, worst worker", "effective_rank", (10, 100)),
}


def anchors(data: Path, work: Path) -> None:
    """The mixture of phones.py, k-means, and both kinds of labels for the training and the held-out recordings."""
    prepare(data, work)
    if not (work / "heldout" / "store.json").is_file():
        verb("prepare", "--input", data / "librispeech" / "valid.manifest.jsonl", "--out", work / "heldout")
    if not (work / "kmeans.npz").is_file():
        # As many classes as the mixture has. Unscaled Euclidean distance would depend mostly on the largest cepstra.
        options = ("--components", 256, "--features", "mfcc100", "--normalize", "mean", "--standardize")
        verb("fit", "kmeans", "--store", work / "store", "--out", work / "kmeans.npz", *options)
    for store in ("store", "heldout"):
        for kind in ("gmm", "kmeans"):
            verb("label", "--store", work / store, "--anchor", work / f"{kind}.npz")


def train(work: Path, variant: str, run: Path, *overrides: str) -> Path:
    kind = TRAINED[variant].anchor
    anchor = (f"--config.anchor.path={work / kind}.npz",) if kind else ()
    store = f"--config.data.store={work / 'store'}"
    verb("train", "--config", f"{CONFIG}:{variant}", "--workdir", run, store, *anchor, *overrides)
    return run


def heldout(work: Path, run: Path) -> Figures:
    path = work / "probes" / f"{run.name}-heldout.json"
    if not path.is_file():
        verb("evaluate", "--checkpoint", run, "--store", work / "heldout", "--json", path)
    return read_json(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=TRAINED, help="only these; the table then has all finished ones")
    args = parser.parse_args()

    anchors(args.data, args.work)
    for variant in args.only or TRAINED:
        train(args.work, variant, args.work / f"{variant}-0")
        if variant == "w2v_bert":
            narrow = [f"--config.{key}={value}" for key, value in NARROW.items()]
            for name, weight in ABLATION.items():  # without the contrastive loss nothing holds the codebook
                train(args.work, variant, args.work / name, *narrow, f"--config.objective.contrastive_weight={weight}")
    baseline = probe(args.data, args.work, "logmel", "--checkpoint", "logmel")
    rows = [("objective", "held-out loss", "trivial", "collapse figure", "phones, % [95%]", *MINUS)]
    figures = {}
    for variant, row in TRAINED.items():
        run = args.work / f"{variant}-0"
        if not run.is_dir():
            continue
        result = heldout(args.work, run)
        phones = probe(args.data, args.work, run.name, "--checkpoint", run)
        against = [str(evaluate.compare([phones], [baseline], "phones")), ""]
        if variant in ANCHORED:
            untrained = probe(args.data, args.work, f"random-{variant}", "--checkpoint", "random", "--like", run)
            against[1] = str(evaluate.compare([phones], [untrained], "phones"))
        loss, trivial = row.losses(result)
        low, high = row.healthy
        outside = "" if low <= result[row.collapse] <= high else ", outside"
        collapse = f"{row.collapse.replace('_', ' ')} {result[row.collapse]:.3g} ({low:g} to {high:g}{outside})"
        beside = f"{trivial:.3f} ({row.trivial})"
        rows.append((row.title, f"{loss:.3f}", beside, collapse, str(evaluate.over_runs([phones], "phones")), *against))
        numbers = {name: value for name, value in result.items() if not isinstance(value, str)}
        figures[variant] = {"heldout": numbers, "chosen": phones["tasks"]["phones"]["chosen"]}
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    table = "\n".join(lines) + "\n"
    write_text(HERE / "objectives.md", table)
    ablation = {}
    for name in ABLATION:
        if (args.work / name).is_dir():
            result = heldout(args.work, args.work / name)
            ablation[name] = {key: result[key] for key in ("code_perplexity", "prediction_accuracy")}
    measured = {"runs": figures, "table": [list(row) for row in rows], "w2v_bert_ablation": ablation}
    write_json(HERE / "objectives.json", measured)
    print(json.dumps(ablation))
    print("\n" + table)
    print(json.dumps({variant: f["chosen"] for variant, f in figures.items()}, ensure_ascii=False))


if __name__ == "__main__":
    main()
