"""Phone accuracy of the small config on real speech, beside its baselines: the first table of docs/results.md.

    python benchmarks/phones.py --data SPEECH --work runs/phones [--seeds 3] [--ablation-seeds 1]

SPEECH holds large/pretrain.manifest.jsonl (recordings for unlabelled use) and librispeech/ (the probe's splits, see
docs/probing.md). Every step is a jepa-speech command in a process of its own. Finished steps are not repeated. Writes
benchmarks/phones.json and benchmarks/phones.md.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from jepa_speech.files import read_json, write_json, write_text
from jepa_speech.probing import evaluate

HERE = Path(__file__).parent
CONFIG = HERE.parent / "configs" / "smoke.py"
BASELINES = {"logmel": "log-mel", "logmel5": "log-mel ±5 frames", "mfcc": "MFCC", "mfcc5": "MFCC ±5 frames"}
TRAINED = {
    "gmm_jepa": "**GMM-anchored JEPA**",
    "anchor_alone": "anchor alone (no L_JEPA, λ ≡ 1)",
    "pure_jepa": "pure JEPA (λ ≡ 0)",
}


def verb(*arguments: object) -> None:
    command = [sys.executable, "-m", "jepa_speech", *map(str, arguments)]
    print("$ jepa-speech", *command[3:], flush=True)
    subprocess.run(command, check=True)


def prepare(data: Path, work: Path) -> None:
    if not (work / "store" / "store.json").is_file():
        verb("prepare", "--input", data / "large" / "pretrain.manifest.jsonl", "--out", work / "store")
    anchor = work / "gmm.npz"
    if not anchor.is_file():
        options = ("--components", 256, "--features", "mfcc", "--normalize", "mean")
        verb("fit", "gmm", "--store", work / "store", "--out", anchor, *options)
    verb("label", "--store", work / "store", "--anchor", anchor)  # says so where it is done


def train(work: Path, variant: str, seed: int) -> Path:
    run = work / f"{variant}-{seed}"
    anchor = () if variant == "pure_jepa" else (f"--config.anchor.path={work / 'gmm.npz'}",)
    store = f"--config.data.store={work / 'store'}"
    verb("train", "--config", f"{CONFIG}:{variant}", "--workdir", run, store, *anchor, f"--config.seed={seed}")
    return run


def probe(data: Path, work: Path, name: str, *options: object) -> dict:
    path = work / "probes" / f"{name}.json"
    if not path.is_file():
        verb("probe", "--name", name, "--data", data / "librispeech", "--out", path.parent, *options)
    return read_json(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3, help="of GMM-anchored JEPA and of the random encoder")
    parser.add_argument("--ablation-seeds", type=int, default=3, help="of the two other objectives; 0: none")
    args = parser.parse_args()

    prepare(args.data, args.work)
    systems = {title: [probe(args.data, args.work, name, "--checkpoint", name)] for name, title in BASELINES.items()}
    for variant, title in TRAINED.items():
        systems[title] = []
        for seed in range(args.seeds if variant == "gmm_jepa" else args.ablation_seeds):
            run = train(args.work, variant, seed)
            systems[title].append(probe(args.data, args.work, run.name, "--checkpoint", run))
    like = args.work / "gmm_jepa-0"
    random = ("--checkpoint", "random", "--like", like, "--seed")
    systems["random init"] = [probe(args.data, args.work, f"random-{s}", *random, s) for s in range(args.seeds)]

    systems = {title: runs for title, runs in systems.items() if runs}
    context = systems[BASELINES["logmel5"]]
    rows = [("features", "seeds", "phone accuracy, % [95%]", "minus log-mel ±5, points [95%]")]
    for title, runs in systems.items():
        difference = "" if runs is context else str(evaluate.compare(runs, context, "phones"))
        rows.append((title, str(len(runs)), str(evaluate.over_runs(runs, "phones")), difference))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---|---|---|---|")
    table = "\n".join(lines) + "\n"
    write_text(HERE / "phones.md", table)
    chosen = {title: [run["tasks"]["phones"]["chosen"] for run in runs] for title, runs in systems.items()}
    figures = {title: [evaluate.estimate(run, "phones")._asdict() for run in runs] for title, runs in systems.items()}
    write_json(HERE / "phones.json", {"chosen": chosen, "runs": figures, "table": [list(row) for row in rows]})
    print("\n" + table)
    print(json.dumps(chosen, ensure_ascii=False))


if __name__ == "__main__":
    main()
