"""`jepa-speech launch`: a run on this machine, on SLURM, a TPU pod slice or Kubernetes, by the scripts of launch/.

Everything is handed on as a list of arguments: no shell here sees them, and what one elsewhere has to see is quoted.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from jepa_speech.errors import UserError
from jepa_speech.local_paths import local_path, path_or_bucket
from jepa_speech.training.configfile import load_config

HELP = "start a training elsewhere, or print the commands that would"
EXAMPLE = (
    "jepa-speech launch slurm --config configs/gmm_jepa.py --workdir /shared/runs/first --nodes 4 --dry-run "
    "--config.data.store=/shared/stores/train --config.anchor.path=/shared/gmm.npz"
)
SCRIPTS = Path(__file__).parents[2] / "launch"


@dataclass(frozen=True)
class Command:
    """One program with its arguments, as a list."""

    arguments: list[str]
    environment: dict[str, str] = field(default_factory=dict)  # in addition to ours
    stdin: str = ""

    def __str__(self) -> str:
        """One line that does the same in bash."""
        variables = "".join(f"{name}={shlex.quote(value)} " for name, value in self.environment.items())
        given = f" <<<{shlex.quote(self.stdin)}" if self.stdin else ""
        return variables + shlex.join(self.arguments) + given

    def run(self) -> int:
        """Runs the program and returns its exit code. Raises UserError if there is no such program.

        Ctrl-C reaches the child from the terminal; this process forwards SIGTERM and waits until the child has ended.
        """
        try:
            process = subprocess.Popen(
                self.arguments,
                env=os.environ | self.environment,
                stdin=subprocess.PIPE if self.stdin else None,
                text=True,
            )
        except FileNotFoundError as error:
            raise UserError(f"{self.arguments[0]}: no such program here; --dry-run prints what it is for") from error
        handlers: dict[int, Any] = {
            signal.SIGINT: signal.SIG_IGN,
            signal.SIGHUP: signal.SIG_IGN,
            signal.SIGTERM: lambda number, _: process.send_signal(number),
        }
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            process.communicate(self.stdin or None)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return process.returncode


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    for name, (help, add_options, _) in KINDS.items():
        kind = kinds.add_parser(name, help=help, description=f"{help}; --config.KEY=VALUE changes a key of the config")
        kind.add_argument(
            "--config",
            type=local_path,
            required=True,
            metavar="FILE[:VARIANT]",
            help="such as configs/gmm_jepa.py, or gmm_jepa for the package's own",
        )
        kind.add_argument(
            "--workdir", type=path_or_bucket, required=True, metavar="RUN", help="the run folder, as the workers see it"
        )
        kind.add_argument("--dry-run", action="store_true", help="print the commands, one a line, and run none")
        add_options(kind)


def whole(text: str) -> int:
    """A whole number from 1."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 1 needed")
    return int(text)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Runs the commands of a kind, or prints them. Raises UserError with a failed one's exit code."""
    if not SCRIPTS.is_dir():
        raise UserError(f"{SCRIPTS}: not there; launch needs a checkout, installed by `pip install --editable .`")
    load_config(options.config, options.overrides)  # a wrong key fails here, not on a cluster
    commands = KINDS[options.kind][2](options)
    for command in commands:
        print(command, flush=True)
        if not options.dry_run and (code := command.run()):
            failed = UserError(f"{command.arguments[0]} ended with {code}")
            failed.exit_code = code if code > 0 else 128 - code
            raise failed
    return {"commands": [command.arguments for command in commands]}


def what(options: argparse.Namespace) -> list[str]:
    """CONFIG RUN and overrides, as the scripts take them."""
    return [options.config, options.workdir, *options.overrides]


def local_options(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--processes", type=whole, default=1, metavar="N", help="that share the work (default: 1)")


def local(options: argparse.Namespace) -> list[Command]:
    config, workdir, *overrides = what(options)
    return [Command([str(SCRIPTS / "local.sh"), config, workdir, str(options.processes), *overrides])]


def slurm_options(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--nodes", type=whole, default=2, metavar="N", help="default: 2")
    kind.add_argument("--gpus-per-node", type=whole, default=8, metavar="N", help="each with a process (default: 8)")
    kind.add_argument("--time", metavar="LIMIT", help="as sbatch has it, such as 24:00:00")
    kind.add_argument("--partition", metavar="NAME", help="of the cluster")
    kind.add_argument("--account", metavar="NAME", help="that pays")


def slurm(options: argparse.Namespace) -> list[Command]:
    gpus = options.gpus_per_node
    asked = [f"--nodes={options.nodes}", f"--gpus-per-node={gpus}", f"--ntasks-per-node={gpus}"]
    asked += [f"--time={options.time}"] if options.time else []
    asked += [f"--partition={options.partition}"] if options.partition else []
    asked += [f"--account={options.account}"] if options.account else []
    return [Command(["sbatch", *asked, str(SCRIPTS / "slurm.sbatch"), *what(options)])]


def tpu_options(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--name", required=True, metavar="NAME", help="of the slice")
    kind.add_argument("--zone", required=True, metavar="ZONE", help="such as us-east5-b")
    kind.add_argument("--type", metavar="TYPE", help="of accelerator, such as v5litepod-64")
    kind.add_argument("--version", metavar="VERSION", help="of the TPU's software, such as v2-alpha-tpuv5-lite")
    kind.add_argument("--project", metavar="ID", help="of Google Cloud (default: gcloud's own)")
    kind.add_argument("--spot", action="store_true", help="cheaper, and may be preempted at any time")
    kind.add_argument("--queued", action="store_true", help="wait for the slice in the queue of the service")
    kind.add_argument("--public", action="store_true", help="workers with external addresses (launch/tpu_pod.sh)")
    kind.add_argument("--mount", metavar="COMMAND", help="run on each worker, so that ~/data holds store and runs")


def tpu(options: argparse.Namespace) -> list[Command]:
    """Returns the script tpu_pod.sh, which repeats its commands as needed; in a dry run, the commands themselves."""
    settings = {
        "NAME": options.name,
        "ZONE": options.zone,
        "TYPE": options.type,
        "VERSION": options.version,
        "PROJECT": options.project,
        "SPOT": "1" if options.spot else "",
        "QUEUED": "1" if options.queued else "",
        "PUBLIC": "1" if options.public else "",
        "MOUNT": options.mount,
    }
    script = Command(
        [str(SCRIPTS / "tpu_pod.sh"), "all", *what(options)],
        {name: value for name, value in settings.items() if value},
    )
    if not options.dry_run:
        return [script]
    environment = os.environ | script.environment | {"DRY_RUN": "1"}
    printed = subprocess.run(script.arguments, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    return [Command(shlex.split(line)) for line in printed.splitlines()]


def gke_options(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--name", default="jepa-speech-train", metavar="NAME", help="of the JobSet")
    kind.add_argument("--image", required=True, metavar="IMAGE", help="with jepa-speech installed")
    kind.add_argument("--hosts", type=whole, default=4, metavar="N", help="pods, one per host (default: 4)")
    kind.add_argument("--chips-per-host", type=whole, default=4, metavar="N", help="TPU chips or GPUs (default: 4)")
    kind.add_argument(
        "--accelerator",
        default="tpu-v5-lite-podslice",
        metavar="LABEL",
        help="of GKE's nodes; nvidia-...: GPUs (default: tpu-v5-lite-podslice)",
    )
    kind.add_argument("--topology", default="4x4", metavar="SHAPE", help="of the TPU slice (default: 4x4)")
    kind.add_argument(
        "--claim", default="data", metavar="NAME", help="the volume claim mounted at /data (default: data)"
    )


def gke(options: argparse.Namespace) -> list[Command]:
    """kubectl is given the filled-in manifest."""
    manifest = yaml.safe_load((SCRIPTS / "gke_jobset.yaml").read_text(encoding="utf-8"))
    name, chips = options.name, options.chips_per_host
    manifest["metadata"]["name"] = name
    job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
    job["parallelism"] = job["completions"] = options.hosts
    pod = job["template"]["spec"]
    if options.accelerator.startswith("nvidia"):
        pod["nodeSelector"], device = {"cloud.google.com/gke-accelerator": options.accelerator}, "nvidia.com/gpu"
    else:
        pod["nodeSelector"]["cloud.google.com/gke-tpu-accelerator"] = options.accelerator
        pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] = options.topology
        device = "google.com/tpu"
    pod["volumes"][0]["persistentVolumeClaim"]["claimName"] = options.claim
    container = pod["containers"][0]
    config, workdir, *overrides = what(options)
    container |= {
        "image": options.image,
        "args": ["--config", config, "--workdir", workdir, *overrides],
        "resources": {"limits": {device: chips}},
    }
    coordinator, processes, _ = container["env"]
    coordinator["value"] = f"{name}-train-0-0.{name}:8476"
    processes["value"] = str(options.hosts)
    return [Command(["kubectl", "apply", "-f", "-"], stdin=json.dumps(manifest))]


KINDS = {
    "local": ("on this machine, in one process or several", local_options, local),
    "slurm": ("on the GPU nodes of a SLURM cluster, by sbatch", slurm_options, slurm),
    "tpu": ("on a Cloud TPU pod slice, by gcloud: created, installed, trained on, deleted", tpu_options, tpu),
    "gke": ("on Kubernetes with JobSet, TPU slices or GPU nodes, by kubectl", gke_options, gke),
}
