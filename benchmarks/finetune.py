"""Fine-tuning of a pre-trained encoder and of the same encoder from scratch, on minutes of transcripts.

    python benchmarks/finetune.py --data SPEECH --work runs/phones [--minutes 5 20] [--seeds 3]

SPEECH and the work folder are as in benchmarks/phones.py. The encoder is its first GMM-anchored JEPA, which is trained
here if it is missing, or the run of --pretrained. Transcripts are those of librispeech/train, in an order drawn once,
as many recordings as fit into the minutes. Both systems get the same steps, batches, masks and learning rates. Each
chooses its learning rate by the character error rate on librispeech/valid. The chosen one is scored on
librispeech/test, whose speakers are in no other split. Every step is a jepa-speech command in a process of its own.
Finished steps are not repeated. Writes benchmarks/finetune.json and benchmarks/finetune.md.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from phones import HERE, prepare, train, verb

from jepa_speech.files import read_json, read_jsonl, write_json, write_jsonl, write_text
from jepa_speech.probing import bootstrap

CONFIG = HERE.parent / "configs" / "finetune_ctc.py"
SYSTEMS = {"pretrained": "pre-trained", "scratch": "from scratch"}
SMALL = {  # for an encoder of the size of configs/smoke.py, and minutes of texts
    "data.batch_seconds": 24.0,
    "data.buckets": "6.0,12.0",
    "mask.probability": 0.3,
    "train.keep": 1,
}
SCRATCH = {"init_from": "", "objective.freeze_steps": 0, "objective.freeze_frontend": "False"}
FROZEN = 10  # the encoder learns after a tenth of the steps: all of them together are few


def texts(data: Path, work: Path, minutes: float) -> Path:
    """A store of the first so many minutes of the training texts, in an order of their own."""
    store = work / f"texts-{minutes:g}"
    if (store / "store.json").is_file():
        return store
    folder, left, chosen = data / "librispeech", 60 * minutes, []
    rows = list(read_jsonl(folder / "train.manifest.jsonl"))
    for row in np.random.default_rng(0).permutation(np.array(rows, dtype=object)):
        left -= row["duration"]
        if left >= 0:
            chosen.append(row | {"audio_path": str((folder / row["audio_path"]).absolute())})
    manifest = work / f"texts-{minutes:g}.jsonl"
    write_jsonl(manifest, chosen)
    verb("prepare", "--input", manifest, "--root", folder, "--out", store)
    return store


def finetuned(pretrained: Path, work: Path, store: Path, system: str, rate: float, seed: int, steps: int) -> Path:
    run = work / "finetune" / f"{system}-{store.name}-{rate:g}-{seed}"
    keys = SMALL | {
        "data.store": store,
        "data.heldout": work / "texts-valid",
        "optim.learning_rate": rate,
        "seed": seed,
    }
    keys |= {"train.steps": steps, "train.checkpoint_every": max(1, steps // 10)}
    keys |= SCRATCH if system == "scratch" else {"objective.freeze_steps": steps // FROZEN}
    settings = [f"--config.{key}={value}" for key, value in keys.items()]
    verb("train", "--config", f"{CONFIG}:{pretrained}", "--workdir", run, *settings)
    return run


def valid_cer(run: Path) -> float:
    """Of the last checkpoint, which is the one that is loaded."""
    return list(read_jsonl(run / "metrics.jsonl"))[-1]["heldout_cer"]


def scored(run: Path, manifest: Path) -> dict[str, dict[str, list[int]]]:
    """figure -> recording -> [errors, length]."""
    rows = run / "test.jsonl"
    if not rows.is_file():
        verb("transcribe", run, "--manifest", manifest, "--out", rows)
    return {figure: {row["audio_path"]: row[figure] for row in read_jsonl(rows)} for figure in ("cer", "wer")}


def counts(runs: list[dict], figure: str) -> np.ndarray:
    """(R, U, 2) of the runs of a system."""
    keys = sorted(runs[0][figure])
    return np.array([[run[figure][key] for key in keys] for run in runs])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pretrained", type=Path, help="a run (default: WORK/gmm_jepa-0, trained if it is not there)")
    parser.add_argument("--minutes", type=float, nargs="+", default=[5, 20])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rates", type=float, nargs="+", default=[5e-4, 2e-3], help="learning rates to choose from")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=HERE, help="where finetune.json and finetune.md go")
    args = parser.parse_args()

    pretrained = args.pretrained
    if not pretrained:
        prepare(args.data, args.work)
        pretrained = train(args.work, "gmm_jepa", 0)
    test = args.data / "librispeech" / "test.manifest.jsonl"
    valid = args.work / "texts-valid"
    if not (valid / "store.json").is_file():
        folder = args.data / "librispeech"
        verb("prepare", "--input", folder / "valid.manifest.jsonl", "--root", folder, "--out", valid)

    head = (
        "minutes of texts",
        "system",
        "seeds",
        "learning rates",
        "CER, % [95%]",
        "WER, % [95%]",
        "CER less than scratch",
    )
    table, found = [head], {}
    for minutes in args.minutes:
        store = texts(args.data, args.work, minutes)
        systems, rates = {}, {}
        for system in SYSTEMS:
            chosen = []
            for seed in range(args.seeds):
                runs = [finetuned(pretrained, args.work, store, system, r, seed, args.steps) for r in args.rates]
                chosen.append(min(runs, key=valid_cer))
            systems[system] = [scored(run, test) for run in chosen]
            rates[system] = [read_json(run / "config.json")["optim"]["learning_rate"] for run in chosen]
        for system, runs in systems.items():
            nothing = {figure: counts(runs, figure)[:1] * [0, 1] for figure in ("cer", "wer")}
            cer, wer = (bootstrap.paired(counts(runs, figure), nothing[figure]) for figure in ("cer", "wer"))
            less = bootstrap.paired(counts(systems["scratch"], "cer"), counts(runs, "cer"))
            cells = (f"{minutes:g}", SYSTEMS[system], str(len(runs)), ", ".join(f"{r:g}" for r in rates[system]))
            table.append((*cells, str(cer), str(wer), "" if system == "scratch" else str(less)))
            found[f"{system}-{minutes:g}"] = {
                "cer": cer._asdict(),
                "wer": wer._asdict(),
                "less_than_scratch": less._asdict(),
                "learning_rates": rates[system],
            }
    lines = ["| " + " | ".join(row) + " |" for row in table]
    lines.insert(1, "|" + "---|" * len(head))
    write_text(args.out / "finetune.md", "\n".join(lines) + "\n")
    settings = {"steps": args.steps, "rates": args.rates, "seeds": args.seeds, "pretrained": pretrained.name} | SMALL
    write_json(
        args.out / "finetune.json", {"settings": settings, "systems": found, "table": [list(row) for row in table]}
    )
    print("\n".join(lines))
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
