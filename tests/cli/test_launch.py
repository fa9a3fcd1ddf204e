"""`jepa-speech launch`: the commands that it would run, and what it asks a cluster.

The programs of clusters are fakes on PATH that record their arguments.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from jepa_speech import cli
from jepa_speech.cli import main

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])
NASTY = "--config.data.store=/a b/$(touch x)';\"*"
WHAT = ["--config", "configs/smoke.py", "--workdir", "runs/one"]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_clean(path):
    checker = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    subprocess.run([checker, str(path)] if checker else ["bash", "-n", str(path)], check=True)


@pytest.mark.parametrize("path", [p for p in SCRIPTS if p.name in ("slurm.sbatch", "tpu_pod.sh")], ids=lambda p: p.name)
def test_without_arguments_the_usage_is_shown(path):
    done = subprocess.run(["bash", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and path.name in done.stderr and "#" not in done.stderr


@pytest.mark.parametrize(
    "given",
    [
        ["az://bucket/run"],
        ["gs://bucket/run", "--config.data.store=az://bucket/a"],
        ["run", "--config.init_from=gs://b/a"],
    ],
)
def test_no_tpu_slice_is_created_for_a_path_that_is_a_url(given, monkeypatch):
    for name in ("NAME", "ZONE", "DRY_RUN"):
        monkeypatch.setenv(name, "x")
    script = next(path for path in SCRIPTS if path.name == "tpu_pod.sh")
    done = subprocess.run(["bash", str(script), "all", "c.py", *given], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and not done.stdout and "mount the bucket" in done.stderr


# What `launch KIND --dry-run` prints, with {launch} for the folder of the scripts.
RECORDED = {
    "local --processes 4": ["{launch}/local.sh configs/smoke.py runs/one 4 --config.train.steps=9"],
    "slurm --nodes 4 --time 2:00:00 --partition gpu --account me": [
        "sbatch --nodes=4 --gpus-per-node=8 --ntasks-per-node=8 --time=2:00:00 --partition=gpu --account=me "
        "{launch}/slurm.sbatch configs/smoke.py runs/one --config.train.steps=9"
    ],
    "tpu --name pod --zone z1 --spot --mount 'gcsfuse b data' --project p": [
        "gcloud compute tpus tpu-vm create pod --zone=z1 --project=p --accelerator-type=v5litepod-64 "
        "--version=v2-alpha-tpuv5-lite --internal-ips --spot",
        "gcloud compute tpus tpu-vm ssh pod --zone=z1 --project=p --worker=all --internal-ip "
        "--ssh-flag=-oServerAliveInterval=30 "
        "'--command=if [ -x jepa-speech/launch/tpu_worker.sh ]; then jepa-speech/launch/tpu_worker.sh stop; fi'",
        "git -C {launch}/.. archive --format=tar.gz --output=/tmp/jepa-speech-pod.tar.gz HEAD",
        "gcloud compute tpus tpu-vm scp /tmp/jepa-speech-pod.tar.gz pod:jepa-speech.tar.gz --zone=z1 --project=p "
        "--worker=all --internal-ip",
        "gcloud compute tpus tpu-vm ssh pod --zone=z1 --project=p --worker=all --internal-ip "
        "--ssh-flag=-oServerAliveInterval=30 "
        '"--command=set -e; rm -rf jepa-speech; mkdir jepa-speech; tar -xzf jepa-speech.tar.gz -C jepa-speech; '
        "python3 -m pip install --user --quiet uv; [ -d venv ] || python3 -m uv venv --quiet --python 3.12 venv; "
        "python3 -m uv pip install --quiet --python venv/bin/python 'jax[tpu]' --editable 'jepa-speech[cloud]'\"",
        "gcloud compute tpus tpu-vm ssh pod --zone=z1 --project=p --worker=all --internal-ip "
        "--ssh-flag=-oServerAliveInterval=30 "
        "\"--command=MOUNT='gcsfuse b data' jepa-speech/launch/tpu_worker.sh run jepa-speech/configs/smoke.py runs/one "
        '--config.train.steps=9"',
        "gcloud compute tpus tpu-vm delete pod --zone=z1 --project=p --quiet",
    ],
}


def printed(capsys, words: str, *overrides: str) -> list[str]:
    kind, *options = shlex.split(words)
    assert main(["launch", kind, *WHAT, *options, "--dry-run", *overrides]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("words", RECORDED, ids=lambda words: words.partition(" ")[0])
def test_a_dry_run_prints_every_command(words, capsys, monkeypatch, stand_in):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("TMPDIR", "/tmp")
    said = stand_in("gcloud")
    lines = printed(capsys, words, "--config.train.steps=9")
    assert len(lines) == len(RECORDED[words])
    for line, recorded in zip(lines, RECORDED[words], strict=True):
        wanted = shlex.split(recorded.format(launch=LAUNCH))
        assert unquoted(line) == wanted
    with pytest.raises(FileNotFoundError):
        said()  # no program was called


def test_a_queued_slice_is_requested_and_deleted_with_its_place_in_the_queue(capsys, monkeypatch, stand_in):
    monkeypatch.chdir(ROOT)
    stand_in("gcloud")
    first, *_, last = printed(capsys, "tpu --queued --name pod --zone z1 --type v6e-16 --version v --spot")
    command, options = "gcloud compute tpus queued-resources", "--accelerator-type=v6e-16 --runtime-version=v"
    assert first == f"{command} create pod --node-id=pod --zone=z1 {options} --internal-ips --spot"
    assert last == f"{command} delete pod --zone=z1 --force --quiet"


def unquoted(line: str) -> list[str]:
    """What bash makes of a printed line."""
    shown = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {line}"],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return shown.stdout.split("\0")[:-1]


def test_gke_fills_in_the_manifest(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    options = "gke --name big --image r/i:1 --hosts 16 --topology 8x8 --claim disk"
    (line,) = printed(capsys, options, "--config.train.steps=9")
    command, _, text = line.partition(" <<<")
    assert command == "kubectl apply -f -"
    manifest = json.loads(shlex.split(text)[0])
    job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert (job["parallelism"], job["completions"], variables["JEPA_SPEECH_PROCESSES"]) == (16, 16, "16")
    assert variables["JEPA_SPEECH_COORDINATOR"] == "big-train-0-0.big:8476"
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "8x8"
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == "disk" and container["image"] == "r/i:1"
    parsed = cli.parse([*container["command"][1:], *container["args"]])
    assert (parsed.config, parsed.workdir, parsed.overrides) == (WHAT[1], WHAT[3], ["--config.train.steps=9"])


def what_happens(code: int, disrupted: bool) -> str:
    """What Kubernetes does when a pod ends so, by the rules of the manifest."""
    spec = yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())["spec"]
    job = spec["replicatedJobs"][0]["template"]["spec"]
    reason = "BackoffLimitExceeded"
    for rule in job["podFailurePolicy"]["rules"]:
        if "onPodConditions" in rule:
            matches = disrupted and {"type": "DisruptionTarget", "status": "True"} in rule["onPodConditions"]
        else:
            assert rule["onExitCodes"]["operator"] == "NotIn" and code != 0
            matches = code not in rule["onExitCodes"]["values"]
        if matches:
            reason = {"FailJob": "PodFailurePolicy", "Count": reason}[rule["action"]]
            break
    assert job["backoffLimit"] == 0 and job["template"]["spec"]["restartPolicy"] == "Never"
    fails = [rule for rule in spec["failurePolicy"]["rules"] if reason in rule["onJobFailureReasons"]]
    return fails[0]["action"] if fails else "RestartJobSet"


def test_kubernetes_starts_again_what_saved_was_killed_or_lost_a_peer():
    assert {code: what_happens(code, False) for code in (1, 2, 75, 134, 137)} == {
        75: "RestartJobSet",
        134: "RestartJobSet",
        137: "RestartJobSet",
    } | dict.fromkeys((1, 2), "FailJobSet")
    assert what_happens(1, True) == "RestartJobSet"  # evicted


@pytest.mark.parametrize(("kind", "program"), [("slurm", "sbatch"), ("gke --image i", "kubectl")])
def test_a_launch_asks_the_cluster_and_returns_its_code(kind, program, stand_in, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    said = stand_in(program, f"[ {program} = sbatch ] || cat >{tmp_path}/in; exit 3")
    kind, *options = kind.split()
    assert main(["launch", kind, *WHAT, *options, NASTY]) == 3
    (call,) = said()
    if program == "sbatch":
        assert call[-4:] == [str(LAUNCH / "slurm.sbatch"), WHAT[1], WHAT[3], NASTY]
    else:
        job = json.loads((tmp_path / "in").read_text())["spec"]["replicatedJobs"][0]["template"]["spec"]
        assert call == ["kubectl", "apply", "-f", "-"]
        assert job["template"]["spec"]["containers"][0]["args"][-1] == NASTY


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["slurm", *WHAT, "--nodes", "0"], "'0': a whole number from 1 needed"),
        (["local", *WHAT, "--config.train.step=1"], "train.step"),
        (["tpu", *WHAT, "--zone", "z"], "--name"),
    ],
)
def test_wrong_options_are_told_before_anything_runs(arguments, line, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(["launch", *arguments]) == 2
    assert line in capsys.readouterr().err
