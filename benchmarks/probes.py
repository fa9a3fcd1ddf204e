"""Every probe on small real corpora, beside its baselines, as one table.

    python benchmarks/probes.py --data SPEECH --work runs/probes [--run RUN ...] [--tasks phones,abx]

SPEECH holds librispeech/, fsdd/, emodb/, slu/ and slu_synthetic/ (docs/probing.md says what a task reads). Systems:
log-mel, log-mel ±5 frames, a random encoder (with the architecture of the first RUN, otherwise of configs/smoke.py),
and the runs. Every probe is a jepa-speech command in a process of its own. Probes that have results are not repeated,
so the same command continues after an interruption. Writes probes.json and probes.md in --out.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from jepa_speech.files import read_json, write_json, write_text
from jepa_speech.probing import evaluate

HERE = Path(__file__).parent
SMOKE = f"{HERE.parent / 'configs' / 'smoke.py'}:pure_jepa"
TASKS = {
    "phones": "librispeech",
    "abx": "librispeech",
    "speaker": "librispeech",
    "asv": "librispeech",
    "keywords": "fsdd",
    "emotion": "emodb",
    "intent": "slu_synthetic",
    "slot_values": "slu",
    "slots": "slu_synthetic",
    "pr": "librispeech",
    "asr": "librispeech",
}
SYNTHETIC = "slu_synthetic"


def probe(data: Path, work: Path, task: str, name: str, options: list[object]) -> dict:
    path = work / task / f"{name}.json"
    if not path.is_file():
        arguments = ("--data", data / TASKS[task], "--tasks", task, "--name", name, "--out", path.parent)
        command = ["probe", *options, *arguments, "--cache", work / "features"]
        print("$ jepa-speech", *command, flush=True)
        subprocess.run([sys.executable, "-m", "jepa_speech", *map(str, command)], check=True)
    return read_json(path)


def name_of(run: Path) -> str:
    run = run.resolve()
    return run.parent.name if run.name == "run" else run.name  # `compare` calls each of its runs so


def rows(task: str, found: list[dict]) -> list[list[str]]:
    """A row per figure: the task, its corpus, chance, and the figure of each system by its chosen head."""
    part = found[0]["tasks"][task]
    corpus = TASKS[task] + (" (synthetic)" if TASKS[task] == SYNTHETIC else "")
    table = []
    for number, (figure, better) in enumerate(part["figures"].items()):
        chance = f"{100 * part['chance']:.1f}" if "chance" in part and not number else ""
        values = [str(evaluate.estimate(results, task, figure)) for results in found]
        table.append([task, corpus, f"{figure} ({better} is better)", chance, *values])
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--run", type=Path, nargs="*", default=[], help="trained runs to probe, too")
    parser.add_argument("--tasks", default=",".join(TASKS), help="some of them (default: all)")
    parser.add_argument("--out", type=Path, default=HERE, help="for the table (default: benchmarks/)")
    args = parser.parse_args()

    systems = {name: ["--checkpoint", name] for name in ("logmel", "logmel5")}
    systems["random"] = ["--checkpoint", "random", "--like", args.run[0] if args.run else SMOKE]
    systems |= {name_of(run): ["--checkpoint", run] for run in args.run}
    if len(systems) < 3 + len(args.run):
        parser.error(f"--run: two systems have one name, which is the folder's: {', '.join(map(name_of, args.run))}")
    found = {
        task: {name: probe(args.data, args.work, task, name, options) for name, options in systems.items()}
        for task in args.tasks.split(",")
    }
    table = [["task", "corpus", "figure, %", "chance", *(f"{name} [95%]" for name in systems)]]
    table += [row for task, of_task in found.items() for row in rows(task, list(of_task.values()))]
    lines = ["| " + " | ".join(row) + " |" for row in table]
    lines.insert(1, "|" + "---|" * len(table[0]))
    write_text(args.out / "probes.md", "\n".join(lines) + "\n")
    chosen = {task: {name: of["tasks"][task]["chosen"] for name, of in every.items()} for task, every in found.items()}
    write_json(args.out / "probes.json", {"chosen": chosen, "table": table})
    print("\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
