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

from phones import CONFIG, HERE, accuracy, prepare, probe, verb

from jepa_speech.files import read_json, write_json, write_text
from jepa_speech.probe import evaluate

Figures = dict[str, float]


def unigram(r: Figures) -> tuple[float, float]:
    return r["cluster"], r["label_entropy"]


def mean_posterior(r: Figures) -> tuple[float, float]:
    return r["cluster"], r["label_entropy"] - r["posterior_entropy"]


# Variant -> anchor, title, what the loss is beside, (loss, trivial loss), and the figure that tells a collapse.
TRAINED: dict[str, tuple[str, str, str, Callable[[Figures], tuple[float, float]], str]] = {
    "gmm_jepa": ("gmm", "GMM-anchored JEPA", "KL of the mean posterior", mean_posterior, "effective_rank"),
    "hubert": ("kmeans", "HuBERT", "unigram entropy of the labels", unigram, "cluster_usage"),
    "wavlm": ("kmeans", "WavLM", "unigram entropy of the labels", unigram, "cluster_usage"),
    "wav2vec2": ("", "wav2vec 2.0", "log 51", lambda r: (r["contrastive"], math.log(51)), "code_perplexity"),
    "data2vec": (
        "",
        "data2vec",
        "the mean target",
        lambda r: (r["regression"], r["target_variance"] * math.sqrt(128)),
        "target_variance",
    ),
    "dinosr": (
        "",
        "DinoSR",
        "log code perplexity",
        lambda r: (r["codes"], math.log(r["code_perplexity"])),
        "code_perplexity",
    ),
    "w2v_bert": (
        "",
        "w2v-BERT",
        "log 26 (contrastive)",
        lambda r: (r["contrastive"], math.log(26)),
        "code_perplexity",
    ),
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


def train(work: Path, variant: str, seed: int) -> Path:
    run, kind = work / f"{variant}-{seed}", TRAINED[variant][0]
    anchor = (f"--config.anchor.path={work / kind}.npz",) if kind else ()
    store = f"--config.data.store={work / 'store'}"
    verb("train", "--config", f"{CONFIG}:{variant}", "--workdir", run, store, *anchor, f"--config.seed={seed}")
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
        train(args.work, variant, 0)
    baseline = probe(args.data, args.work, "logmel", "--checkpoint", "logmel")
    rows = [
        (
            "objective",
            "held-out loss",
            "trivial predictor",
            "collapse figure",
            "phones, % [95%]",
            "minus log-mel",
            "minus own random init",
        )
    ]
    figures = {}
    for variant, (_, title, beside, losses, figure) in TRAINED.items():
        run = args.work / f"{variant}-0"
        if not run.is_dir():
            continue
        result = heldout(args.work, run)
        phones = probe(args.data, args.work, run.name, "--checkpoint", run)
        untrained = probe(args.data, args.work, f"random-{variant}", "--checkpoint", "random", "--like", run)
        loss, trivial = losses(result)
        against = [str(evaluate.compare([phones], [other], "phones")) for other in (baseline, untrained)]
        collapse = f"{figure.replace('_', ' ')} {result[figure]:.3g}"
        rows.append((title, f"{loss:.3f}", f"{trivial:.3f} ({beside})", collapse, str(accuracy([phones])), *against))
        figures[variant] = {"heldout": result, "chosen": phones["tasks"]["phones"]["chosen"]}
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    table = "\n".join(lines) + "\n"
    write_text(HERE / "objectives.md", table)
    write_json(HERE / "objectives.json", {"runs": figures, "table": [list(row) for row in rows]})
    print("\n" + table)
    print(json.dumps({variant: f["chosen"] for variant, f in figures.items()}, ensure_ascii=False))


if __name__ == "__main__":
    main()
