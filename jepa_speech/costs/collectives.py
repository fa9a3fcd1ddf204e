"""Collectives of a compiled module, read from its text, to compare with the closed form of `costs/exchange.py`."""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

EXPECTED = ("all-reduce", "all-gather", "reduce-scatter")  # the first alone if nothing is split, on one slice
BYTES = {"pred": 1, "bf16": 2, "c64": 8, "c128": 16}  # others say their bits: f32, s8, f8e4m3fn
COLLECTIVE = re.compile(r" (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-start)?\(")
CALLED = re.compile(r"\b(body|calls|to_apply|true_computation|false_computation)=%?([\w.\-]+)")
CALLED_LIST = re.compile(r"\b(?:branch_computations|called_computations)=\{([^}]*)\}")
# A TPU's collective in steps, each beside other work: every step names it, by the same channel.
CHAIN = re.compile(r"channel_id=(\d+),.*chain_id=")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


class Collective(NamedTuple):
    """One of a compiled module. payload: bytes of the whole that is reduced, gathered, scattered or sent."""

    kind: str
    name: str
    payload: int
    group: int  # devices that take part in one
    source: str = ""  # the operation that it belongs to, as jax names it
    times: int = 1  # in a step
    inside: tuple[str, ...] = ()  # conditionals, counted as taken, and loops of unknown length, counted once
    chain: str = ""  # the channel of one that runs in several steps

    @property
    def sent(self) -> float:
        """Bytes that each device sends in a step, if the group is a ring: the least that any algorithm can do.

        All-reduce 2 (n - 1) / n of the payload; all-gather, reduce-scatter, all-to-all (n - 1) / n (Patarasuk & Yuan
        2009); a permutation all of it.
        """
        share = {"all-reduce": 2 * (self.group - 1) / self.group, "collective-permute": 1.0}
        return self.times * self.payload * share.get(self.kind, (self.group - 1) / self.group)


def sent_by_kind(collectives: list[Collective]) -> dict[str, float]:
    """Bytes per step and device."""
    kinds = sorted({c.kind for c in collectives})
    return {kind: sum(c.sent for c in collectives if c.kind == kind) for kind in kinds}


def beyond_closed_form(found: list[dict[str, Any]], mesh: Sequence[int], slices: int) -> list[dict[str, Any]]:
    """Those of a kind that the closed form does not have, largest first: dicts of the fields of `Collective`, and sent.

    mesh: [data, fsdp]. Several slices sum in three steps, of which the last gathers within a slice.
    """
    expected = EXPECTED if mesh[1] > 1 or slices > 1 else EXPECTED[:1]
    return sorted((c for c in found if c["kind"] not in expected), key=lambda c: -c["sent"])


def collectives(text: str) -> list[Collective]:
    """Those of a compiled module (`compiled.as_text()`), as often as one call runs them.

    A pair of start and done is one, and so is a TPU's chain of steps. One that is fused or wrapped into a computation
    counts where that is called.
    Raises ValueError where groups of devices are written in a way that is not known.
    """
    header = re.search(r"\b(?:num_partitions|replica_count)=(\d+)", text)
    devices = int(header.group(1)) if header else 1
    computations: dict[str, list[str]] = {}
    entry = name = ""
    for line in text.splitlines():
        if opening := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            name = opening.group(2)
            entry = name if opening.group(1) else entry
            computations[name] = []
        elif name:
            computations[name].append(line)

    def of(computation: str) -> Iterator[Collective]:
        for line in computations[computation]:
            if found := COLLECTIVE.search(line):
                yield read_collective(line, found, devices)
            if re.search(r" async-(done|update)\(", line):
                continue  # the start has called it
            called = [inner for _, inner in CALLED.findall(line)]
            called += [inner.strip(" %") for group in CALLED_LIST.findall(line) for inner in group.split(",")]
            times = 1
            inside: tuple[str, ...] = ()
            if " while(" in line and (trips := TRIPS.search(line)):
                times = int(trips.group(1))
            elif " while(" in line or " conditional(" in line:
                inside = (label(line),)
            for inner in called:
                for c in of(inner):
                    yield c._replace(times=c.times * times, inside=inside + c.inside)

    found, chains = [], set[str]()
    for c in of(entry):
        if c.chain not in chains:
            found.append(c)
        chains |= {c.chain} - {""}
    return found


def read_collective(line: str, found: re.Match[str], devices: int) -> Collective:
    """From an instruction's line. What a start gives holds its inputs as well."""
    kind, start = found.groups()
    group = 2 if kind == "collective-permute" else group_size(line, devices)
    size = sum(map(shape_bytes, re.findall(r"(\w+)\[([\d,]*)\]", line[: found.start()].partition(" = ")[2])))
    if kind in ("all-gather", "reduce-scatter") and start:
        size = size * group // (group + 1)
    elif kind == "reduce-scatter":
        size *= group
    elif kind in ("all-to-all", "collective-permute") and start:
        size //= 2
    source, chain = re.search(r'op_name="([^"]*)"', line), CHAIN.search(line)
    return Collective(
        *(kind, label(line), size, group, source.group(1) if source else ""), chain=chain.group(1) if chain else ""
    )


def group_size(line: str, devices: int) -> int:
    """Of `replica_groups={{0,1},{2,3}}`, `[2,4]<=[8]` (two groups of four), `mesh['a'=2,'b'=4] {'b'}`, `{}` (all)."""
    if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", line):
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", mesh.group(1)))
        axes = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", mesh.group(2))  # of an axis, or of a part of its size
        return math.prod(int(part or sizes[axis]) for axis, part in axes)
    written = re.search(r"replica_groups=(?:\{\{([\d,]+)\}|\[\d+,(\d+)\]<=|\{\})", line)
    if not written:
        raise ValueError(f"replica groups that cannot be read: {line.strip()}")
    listed, size = written.groups()
    return len(listed.split(",")) if listed else int(size or devices)


def shape_bytes(shape: tuple[str, str]) -> int:
    kind, sizes = shape
    if kind == "token":
        return 0
    width = BYTES.get(kind) or int(re.findall(r"\d+", kind)[0]) // 8
    return width * math.prod(int(size) for size in sizes.split(",") if size)


def label(line: str) -> str:
    return line.partition(" = ")[0].split()[-1].lstrip("%")
