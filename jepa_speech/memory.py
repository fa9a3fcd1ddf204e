"""The memory of a process and its children, from Linux's /proc."""

from collections import defaultdict
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


def family(pid: int) -> list[int]:
    """Returns the ids of a process and all its descendants."""
    children = defaultdict(list)
    for stat in PROC.glob("[0-9]*/stat"):
        with suppress(OSError):  # the process has just ended
            parent = int(stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
            children[parent].append(int(stat.parent.name))
    found = [pid]
    for member in found:
        found += children[member]
    return found


def proportional(pid: int) -> int:
    """Returns the bytes of a process and its descendants. A page shared by n counts 1/n (PSS). 0 if unknown."""
    return sum(_field(member, "smaps_rollup", "Pss:") for member in family(pid))


def anonymous(pid: int) -> int:
    """Returns the bytes of a process that no file backs (RssAnon), in which leaks appear. 0 after its end."""
    return _field(pid, "status", "RssAnon:")


def _field(pid: int, file: str, name: str) -> int:
    with suppress(OSError):
        for line in (PROC / str(pid) / file).read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(name):
                return 1024 * int(line.split()[1])
    return 0
