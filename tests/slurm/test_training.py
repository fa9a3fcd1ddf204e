"""launch/slurm.sbatch on a real SLURM: two tasks learn what one process does, whatever stops them in between.

Every run saves a checkpoint each 20 steps, and lasts until its test ends it.
"""

import signal

import pytest
from slurm.cluster import NODES
from slurm.job import rows

pytestmark = [pytest.mark.slow, pytest.mark.slurm]


def assert_resumed(job, alone, start, saved):
    """The run trains again from the step `saved`, and all its steps agree with those of one process."""
    job.trains(start)
    assert job.events("resume")[-1]["step"] == saved > 0
    assert_like(job, alone)


def assert_like(job, alone):
    metrics = rows(job.run)
    assert sorted(metrics) == list(range(1, len(metrics) + 1)) and len(metrics) > 20
    expected = alone(len(metrics))
    for step, row in metrics.items():
        for name in ("loss", "grad_norm"):
            assert row[name] == pytest.approx(expected[step][name], rel=1e-5), (step, name)


@pytest.mark.parametrize("nodes", [1, 2])
def test_two_tasks_learn_what_one_process_does_until_scancel_ends_them(nodes, submit, alone):
    job = submit(nodes)
    job.trains()
    assert_like(job, alone)
    job.scancel()
    job.wait(lambda: job.state == "CANCELLED" and job.events("interrupted"))
    assert job.saved == job.events("interrupted")[0]["step"] and job.restarts == 0


def test_near_the_time_limit(submit, alone):
    """SLURM checks limits every half minute. The job is requeued once it has saved."""
    job = submit(2, "--signal=B:USR1@100")
    job.trains()
    job.update(TimeLimit=2)
    saved = job.requeued(TimeLimit=60)
    assert job.events("interrupted")[0]["step"] == saved
    assert_resumed(job, alone, 2, saved)


def test_tasks_that_do_not_answer_before_the_time_limit(submit, alone):
    """The script requeues the job while they run. SLURM wakes them, and kills them if they do not save in 30 s."""
    job = submit(2, "--signal=B:USR1@100")
    job.trains()
    job.signal(0, signal.SIGSTOP)
    job.signal(1, signal.SIGSTOP)
    job.update(TimeLimit=2)
    saved = job.requeued(TimeLimit=60)
    assert f"JOB {job.number} ON {NODES[0]} CANCELLED" in job.log and "DUE TO JOB REQUEUE" in job.log
    assert_resumed(job, alone, 2, saved)


def test_requeue(submit, alone):
    job = submit()
    job.trains()
    job.cluster.run("scontrol", "requeue", job.number)
    saved = job.requeued()
    assert job.events("interrupted")[0]["step"] == saved
    assert_resumed(job, alone, 2, saved)


def test_usr1_by_hand(submit, alone):
    """To the tasks alone: they save and start again in place. To the script: as near the time limit."""
    job = submit()
    job.trains()
    job.scancel("--signal=USR1")
    job.wait(lambda: job.events("interrupted"))
    assert_resumed(job, alone, 2, job.events("interrupted")[0]["step"])
    assert job.restarts == 0
    job.scancel("--signal=USR1", "--batch")
    assert_resumed(job, alone, 3, job.requeued())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
def test_a_lost_task(number, submit, alone):
    """All start again in place. A hung task is killed two minutes after the other has noticed it."""
    job = submit()
    job.trains()
    job.signal(1, number)
    job.wait(lambda: job.starts == 2)
    assert_resumed(job, alone, 2, job.events("resume")[0]["step"])
    assert job.restarts == 0


def test_preemption_with_a_grace_time(submit, alone):
    """The run saves and makes room, rather than start again within the grace time."""
    job = submit()
    job.trains()
    urgent = ["--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=true", "--wait"]
    job.cluster.run("sbatch", *urgent)
    saved = job.requeued()
    assert job.starts == 1 and job.events("interrupted")[0]["step"] == saved
    assert_resumed(job, alone, 2, saved)


def test_a_lost_node(submit, alone):
    """The node comes back by itself."""
    job = submit()
    job.trains()
    job.cluster.run("scontrol", "update", f"NodeName={NODES[1]}", "State=DOWN", "Reason=test")
    assert_resumed(job, alone, 2, job.requeued())


def test_a_wrong_config_ends_the_job(submit):
    job = submit(2, overrides=["--config.train.step=1"])
    job.wait(lambda: job.state == "FAILED")
    assert (job.field("ExitCode"), job.restarts) == ("2:0", 0) and "train.step" in job.log
