"""Every objective at the size of configs/smoke.py on real speech: held-out loss beside a trivial one, and phones.

    python benchmarks/objectives.py --data SPEECH --work runs/phones [--only hubert wavlm]

SPEECH as in benchmarks/phones.py, and the same work folder may be used. Held out: librispeech/valid, speakers in
no training recording. Every step is a verb in a process of its own; one that was finished is not run again. Ends with
benchmarks/objectives.json and benchmarks/objectives.md.
"""

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from phones import CONFIG, HERE, accuracy, prepare, probe, verb

from jepa_speech.features.targets import TARGETS as PASE_TARGETS
from jepa_speech.files import read_json, write_json, write_text
from jepa_speech.probe import evaluate

Figures = dict[str, float]
ANCHORED = ("gmm_jepa", "hubert", "wavlm")  # these are to beat their own random init, too
ABLATED = "w2v_bert_without_contrastive-0"
MINUS = ("minus log-mel", "minus own random init")


def unigram(r: Figures) -> tuple[float, float]:
    return r["cluster"], r["label_entropy"]


def mean_posterior(r: Figures) -> tuple[float, float]:
    return r["cluster"], r["label_entropy"] - r["posterior_entropy"]


def worst_worker(r: Figures) -> tuple[float, float]:
    return max(value for name, value in r.items() if name in PASE_TARGETS), 1.0


class Row(NamedTuple):
    title: str
    anchor: str  # gmm, kmeans, or none
    losses: Callable[[Figures], tuple[float, float]]  # held out, and the trivial predictor's
    trivial: str  # what that predictor does
    collapse: str  # the figure that tells one


TRAINED: dict[str, Row] = {
    "gmm_jepa": Row("GMM-anchored JEPA", "gmm", mean_posterior, "mean posterior", "effective_rank"),
    "hubert": Row("HuBERT", "kmeans", unigram, "unigram entropy", "cluster_usage"),
    "wavlm": Row("WavLM", "kmeans", unigram, "unigram entropy", "cluster_usage"),
    "wav2vec2": Row("wav2vec 2.0", "", lambda r: (r["contrastive"], math.log(51)), "log 51", "code_perplexity"),
    "data2vec": Row(
        "data2vec",
        "",
        lambda r: (r["regression"], r["target_variance"] * math.sqrt(128)),
        "mean target",
        "target_variance",
    ),
    "dinosr": Row(
        "DinoSR",
        "",
        lambda r: (r["codes"], math.log(r["code_perplexity"])),
        "log code perplexity",
        "code_perplexity",
    ),
    "w2v_bert": Row("w2v-BERT", "", lambda r: (r["contrastive"], math.log(26)), "log 26", "code_perplexity"),
    "pase": Row("PASE", "", worst_worker, "mean, worst worker", "effective_rank"),
    "pase_plus": Row("PASE+", "", worst_worker, "mean, worst worker", "effective_rank"),
}


def anchors(data: Path, work: Path) -> None:
    """The mixture of phones.py, k-means, and both kinds of labels for the training and the held-out recordings."""
    prepare(data, work)
    if not (work / "heldout" / "store.json").is_file():
        verb("prepare", "--input", data / "librispeech" / "valid.manifest.jsonl", "--out", work / "heldout")
    if not (work / "kmeans.npz").is_file():
        options = ("--components", 100, "--features", "mfcc100", "--normalize", "mean")
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
    parser.add_argument(
        "--only", nargs="*", choices=TRAINED, help="these alone; the table then holds what has been run"
    )
    args = parser.parse_args()

    anchors(args.data, args.work)
    for variant in args.only or TRAINED:
        train(args.work, variant, args.work / f"{variant}-0")
        if variant == "w2v_bert":  # the paper's ablation: nothing holds the codebook
            train(args.work, variant, args.work / ABLATED, "--config.objective.contrastive_weight=0.0")
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
        collapse = f"{row.collapse.replace('_', ' ')} {result[row.collapse]:.3g}"
        beside = f"{trivial:.3f} ({row.trivial})"
        rows.append((row.title, f"{loss:.3f}", beside, collapse, str(accuracy([phones])), *against))
        figures[variant] = {"heldout": result, "chosen": phones["tasks"]["phones"]["chosen"]}
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    table = "\n".join(lines) + "\n"
    write_text(HERE / "objectives.md", table)
    ablation = {}
    if (args.work / ABLATED).is_dir():
        for name in ("w2v_bert-0", ABLATED):
            result = heldout(args.work, args.work / name)
            ablation[name] = {key: result[key] for key in ("code_perplexity", "prediction_accuracy")}
    measured = {"runs": figures, "table": [list(row) for row in rows], "w2v_bert_ablation": ablation}
    write_json(HERE / "objectives.json", measured)
    print(json.dumps(ablation))
    print("\n" + table)
    print(json.dumps({variant: f["chosen"] for variant, f in figures.items()}, ensure_ascii=False))


if __name__ == "__main__":
    main()
