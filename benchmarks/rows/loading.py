"""The loader beside torch's DataLoader with soundfile: same crops of the same FLAC bytes, with as many processes."""

from functools import partial
from pathlib import Path

import loader
from rows import made
from rows.race import Row

from jepa_speech.store.prepare import prepare
from jepa_speech.store.store import Store

PEERS = ("torch", "soundfile")
WORKERS = 2


def rows(quick: bool, work: Path, data: Path | None) -> list[Row]:
    count, seconds, turns = (6, 0.3, 1) if quick else (400, 5.0, 5)
    recordings = data or made.recordings(work / "recordings", count, (0.5, 1.0) if quick else (2.0, 16.0))
    stores = {}
    for codec in ("flac", "pcm16"):
        prepare([recordings], work / codec, codec, workers=1 if quick else None)
        stores[codec] = Store(work / codec)
    folder, plan = work / "files", loader.plan_of(stores["flac"])
    folder.mkdir()
    for number, record in enumerate(loader.records_of(stores["flac"])):
        (folder / f"{number}.flac").write_bytes(record)
    workers = 1 if quick else WORKERS
    runners = {
        "flac": partial(loader.ours, stores["flac"], workers),
        "torch": partial(loader.torch_loader, folder, plan, workers),
        "pcm16": partial(loader.ours, stores["pcm16"], workers),
    }
    rates: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(turns):
        for name, start in runners.items():
            rates[name].append(loader.rate(start, seconds, pinned=False))
    audio = f"{len(stores['flac']):,} {'of DATA' if data else 'synthetic'} recordings, {stores['flac'].hours:.2g} h"
    peer, unit = "torch DataLoader + soundfile, FLAC", "audio-s/s"
    processes = f"{workers} workers" if workers > 1 else "1 worker"
    return [
        Row(f"loader, FLAC, {processes}, {audio}", peer, rates["flac"], rates["torch"], unit, goal=2.0),
        Row(
            f"loader, PCM16, {processes}, the same recordings",
            peer,
            rates["pcm16"],
            rates["torch"],
            unit,
            note="a store prepared as PCM16 is twice the size and needs no decoding; the peer reads FLAC",
        ),
    ]
