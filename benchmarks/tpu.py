"""Compile configs/smoke.py and the published configs for TPU slices, without a TPU: benchmarks/tpu.json and tpu.md.

    python benchmarks/tpu.py [--only gmm_jepa hubert ...]

Needs the extra tpu-plan; only one process at a time may use libtpu. A row is one compiled step of one bucket, by
`jepa-speech plan --compile`, at about 60 s of audio per device. If that does not fit, the rows are halved until they
do. The table is written after each row. The next run adds rows that are missing, and replaces those that other
versions of jax or libtpu compiled.
"""

import argparse
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jepa_speech.costs.collectives import beyond_closed_form
from jepa_speech.costs.tpu_compiler import versions
from jepa_speech.files import read_json, write_json, write_text
from jepa_speech.training.configfile import load_config

HERE = Path(__file__).parent
REPORT = HERE / "tpu.json"
AUDIO = 60.0  # seconds per device
SLICES = {"v5e:2x4": 8, "v6e:2x4": 8, "v5p:2x2x2": 8, "v5e:16x16": 256}  # and their devices
FIRST = ("gmm_jepa", "hubert")
OTHERS = (
    *("wavlm", "wav2vec2", "data2vec", "data2vec2", "dinosr", "w2v_bert", "best_rq", "sigreg_jepa", "s_jepa"),
    *("pure_jepa", "gmm_jepa_released", "pase", "pase_plus", "finetune_ctc"),
)
HEAD = [
    *("config", "slice", "mesh", "rows × s", "rows per device", "arguments, GB", "temporaries, GB", "all, GB"),
    *(
        "program, MB",
        "TFLOP per step",
        "sent, MB",
        "closed form, MB",
        "beyond it, MB",
        "compile, s",
        "of processor time, s",
    ),
]


class Row(NamedTuple):
    config: str
    topology: str
    seconds: float

    def command(self, rows: int) -> list[str]:
        """The arguments of `jepa-speech` that compile this row, with so many rows per device."""
        batch = rows * SLICES[self.topology] * self.seconds
        changes = {"data.buckets": f"({self.seconds:g},)", "data.batch_seconds": f"{batch:g}"}
        return [
            *("plan", "--config", self.config, "--compile", self.topology),
            *(f"--config.{key}={value}" for key, value in changes.items()),
        ]


def wanted() -> Iterator[Row]:
    """All rows, in the order in which they are made."""
    whole = "smoke", *FIRST, *OTHERS
    buckets = {name: sorted(load_config(name).data.buckets, reverse=True) for name in whole}
    for name in whole:
        yield Row(name, "v5e:2x4", buckets[name][0])
    for topology in ("v5e:16x16", "v6e:2x4", "v5p:2x2x2"):
        for name in FIRST:
            yield Row(name, topology, buckets[name][0])
    for name in FIRST:
        for seconds in buckets[name][1:]:
            yield Row(name, "v5e:2x4", seconds)


def compiled(row: Row) -> dict[str, Any]:
    """What `jepa-speech plan --compile` finds of the row, with as many rows as fit, or with one if that does not."""
    per_device = max(1, round(AUDIO / row.seconds))
    while True:
        command = row.command(per_device)
        print("jepa-speech", *command, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder, "plan.json")
            subprocess.run([sys.executable, "-m", "jepa_speech", *command, "--json", str(report)], check=True)
            found = read_json(report)
            found.pop("about")
        (run,) = found.pop("runs")
        if "needed_bytes" not in run or per_device == 1:
            run["beyond"] = beyond_closed_form(run.pop("collectives", []), found["mesh"], found["slices"])
            return row._asdict() | {"command": shlex.join(["jepa-speech", *command])} | found | run
        per_device //= 2


def cells(row: dict[str, Any]) -> list[str]:
    """A line of the table."""
    name = row["config"], row["topology"], " × ".join(map(str, row["mesh"])), f"{row['rows']} × {row['seconds']:g}"
    per_device, closed = f"{row['rows'] // row['devices']}", sum(row["closed_form"].values())
    if "needed_bytes" in row:
        return [*name, per_device, "", "", f"{row['needed_bytes'] / 1e9:.2f}: too much", *[""] * 7]
    cpu = f"{row['compile_cpu_seconds']:.0f}" if "compile_cpu_seconds" in row else ""
    sent, more = sum(row["sent"].values()), sum(c["sent"] for c in row["beyond"])
    return [
        *(
            *name,
            per_device,
            f"{row['arguments'] / 1e9:.2f}",
            f"{row['temporaries'] / 1e9:.2f}",
            f"{row['peak'] / 1e9:.2f}",
        ),
        *(
            f"{row['program_bytes'] / 1e6:.0f}",
            f"{row['flops'] / 1e12:.1f}",
            f"{sent / 1e6:.1f}",
            f"{closed / 1e6:.1f}",
        ),
        *(f"{more / 1e6:.1f}", f"{row['compile_seconds']:.0f}", cpu),
    ]


def page(table: list[list[str]], used: dict[str, str]) -> str:
    lines = [f"| {' | '.join(line)} |" for line in table]
    lines.insert(1, "|---" * len(table[0]) + "|")
    named = ", ".join(f"{name} {number}" for name, number in used.items())
    return "\n".join(lines) + f"\n\nBy `python benchmarks/tpu.py`, with {named}, on two busy CPU cores.\n"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", nargs="+", metavar="CONFIG", help="published configs (default: all)")
    args = options.parse_args()
    used, made = versions(), read_json(REPORT)["rows"] if REPORT.exists() else []
    made = [row for row in made if row["versions"] == used]
    there = {Row(row["config"], row["topology"], row["seconds"]) for row in made}
    order = list(wanted())
    for row in order:
        if row in there or (args.only and row.config not in args.only):
            continue
        made.append(compiled(row))
        made.sort(key=lambda row: order.index(Row(row["config"], row["topology"], row["seconds"])))
        table = [HEAD, *map(cells, made)]
        write_json(REPORT, {"table": table, "rows": made})
        write_text(HERE / "tpu.md", page(table, used))


if __name__ == "__main__":
    main()
