"""A cluster for all tests of this folder, and what one process learns."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from slurm.cluster import Cluster, wait_for
from slurm.job import PATIENCE, Job, rows
from support.clustered_audio import babble_store
from support.compile_fast import COMPILE_FAST

ROOT = Path(__file__).parents[2]
STEPS = 1_000_000  # a run lasts until a test ends it


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    # A closed terminal or `kill` ends the tests as Ctrl-C does, so that no daemon is left.
    for each in (signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(each) is signal.SIG_DFL:  # not under nohup
            signal.signal(each, signal.default_int_handler)
    try:
        with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
            cluster.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            cluster.environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count=1 {COMPILE_FAST}"
            yield cluster
    except FileNotFoundError as error:
        pytest.exit(str(error), returncode=1)


@pytest.fixture(scope="session")
def arguments(tmp_path_factory):
    """CONFIG and the overrides of all runs."""
    store = babble_store(tmp_path_factory.mktemp("data"), [0.9, 1.3, 0.8, 1.1] * 24)
    keys = {
        "data.store": store.path,
        "data.buckets": "1.0",
        "data.batch_seconds": 16,
        "encoder.width": 32,
        "train.steps": STEPS,
        "train.checkpoint_every": 20,
        "train.report_every": 100,
    }
    return [f"{ROOT}/configs/tiny.py:data2vec", *(f"--config.{key}={value}" for key, value in keys.items())]


@pytest.fixture(scope="session")
def alone(arguments, tmp_path_factory):
    """alone(STEP): the metrics of one process with two devices, by step, at least until STEP.

    The process is stopped in between, because the jobs need the cores.
    """
    run = tmp_path_factory.mktemp("alone") / "run"
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count=2 {COMPILE_FAST}"}
    config, *overrides = arguments
    command = [sys.executable, "-m", "jepa_speech", "train", "--config", config, "--workdir", run, *overrides]
    with subprocess.Popen(command, env=os.environ | flags) as process:
        process.send_signal(signal.SIGSTOP)

        def until(step):
            process.send_signal(signal.SIGCONT)
            wait_for(lambda: max(rows(run), default=0) >= step or process.poll() is not None, 10 * PATIENCE)
            process.send_signal(signal.SIGSTOP)
            return rows(run)

        yield until
        process.kill()


@pytest.fixture
def submit(cluster, arguments, tmp_path, monkeypatch):
    """submit(NODES, OPTION...) of sbatch: a training of two tasks on so many nodes. The job is cancelled at the end."""
    monkeypatch.chdir(tmp_path)
    jobs = []

    def submitted(nodes=2, *options, overrides=()):
        run = tmp_path / f"run{len(jobs)}"
        tasks = 2 // nodes
        config, *common = arguments
        asked = [f"--nodes={nodes}", f"--ntasks-per-node={tasks}", f"--gpus-per-node={tasks}", "--cpus-per-task=1"]
        script = [ROOT / "launch" / "slurm.sbatch", config, run, *common, *overrides]
        number = cluster.run("sbatch", "--parsable", *asked, "--time=60", *options, *script)
        jobs.append(Job(cluster, int(number), run))
        return jobs[-1]

    yield submitted
    for job in jobs:
        job.end()
