"""A SLURM cluster of two nodes in a temporary folder, for tests: munged, slurmctld and two slurmd, all on 127.0.0.1.

It needs no root and no configuration of this machine. Each node pretends to have 64 cores and 4 GPUs (device files that
every Linux has). The nodes are called 127.0.0.1 and 127.0.0.2, so that jax finds its coordinator by the node's name.
"""

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol", "sinfo")
NODES = ("127.0.0.1", "127.0.0.2")
GRACE_TIME = 90

CONFIG = """
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
SwitchType=switch/none
GresTypes=gpu
KillWait=30
MinJobAge=3600
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={nodes[0]} NodeHostname=node1 NodeAddr=127.0.0.1 Port={ports[1]} CPUs=64 RealMemory=1000000 Gres=gpu:4
NodeName={nodes[1]} NodeHostname=node2 NodeAddr=127.0.0.1 Port={ports[2]} CPUs=64 RealMemory=1000000 Gres=gpu:4
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime={grace}
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


def program(name: str) -> str:
    """Returns the path of a program of SLURM or MUNGE. Raises FileNotFoundError with what to install."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        raise FileNotFoundError(f"{name}: not on this machine; install SLURM and MUNGE (Debian: slurm-wlm, munge)")
    return found


def wait_for(condition: Callable[[], object], seconds: float, what: Callable[[], str] = str) -> None:
    """Waits until `condition` is true. After `seconds` it fails with what `what` returns."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.2)


class Cluster:
    """Runs inside a `with` block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
        self.daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Cluster":
        for name in PROGRAMS:
            program(name)
        (self.folder / "state").mkdir()
        for node in NODES:
            (self.folder / node).mkdir()
        key = self.folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(128))
        config = CONFIG.format(
            folder=self.folder, nodes=NODES, user=getpass.getuser(), ports=free_ports(3), grace=GRACE_TIME
        )
        (self.folder / "slurm.conf").write_text(config)
        (self.folder / "gres.conf").write_text("Name=gpu File=/dev/null,/dev/zero,/dev/full,/dev/random\n")
        try:
            munge = {name: self.folder / f"munge.{name}" for name in ("socket", "pid", "log", "seed")}
            self.start(
                "munged",
                "--foreground",
                "--force",  # the temporary folder may be writable by others
                f"--key-file={key}",
                f"--socket={munge['socket']}",
                f"--pid-file={munge['pid']}",
                f"--log-file={munge['log']}",
                f"--seed-file={munge['seed']}",
            )
            wait_for(munge["socket"].exists, 60, self.logs)
            self.start("slurmctld", "-D")
            for node in NODES:
                self.start("slurmd", "-D", "-N", node)
            states = ("sinfo", "--noheader", "--Node", "--partition=main", "--format=%T")
            wait_for(lambda: self.run(*states, check=False).split() == ["idle"] * 2, 120, self.logs)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.daemons[1:]:
            self.run("scancel", f"--user={getpass.getuser()}", check=False)
            wait_for(lambda: not self.run("squeue", "-h", check=False), 120, self.logs)
        for daemon in reversed(self.daemons):
            daemon.terminate()
            daemon.wait(60)

    def start(self, name: str, *arguments: str) -> None:
        with (self.folder / "daemons.log").open("ab") as log:
            daemon = subprocess.Popen([program(name), *arguments], env=self.environment, stdout=log, stderr=log)
        self.daemons.append(daemon)

    def run(self, name: str, *arguments: object, check: bool = True, **options: object) -> str:
        """Returns what a program of SLURM prints."""
        command = [name, *map(str, arguments)]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, **options)
        assert not check or done.returncode == 0, f"{command}: {done.returncode}: {done.stderr}"
        return done.stdout

    def logs(self) -> str:
        """The ends of the daemons' logs, for a test that fails."""
        return "\n".join(f"{path}:\n{path.read_text()[-2000:]}" for path in sorted(self.folder.glob("*.log")))


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
